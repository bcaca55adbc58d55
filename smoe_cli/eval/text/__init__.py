"""Tasks on texts: log-likelihoods under a causal language model."""
