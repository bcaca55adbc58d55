"""How often a model uses each of its experts, by layer and modality: counted, continued, added, drawn."""
