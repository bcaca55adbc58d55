"""Surgery on transformers MoE decoders, the latent interface, and the model that joins them."""
