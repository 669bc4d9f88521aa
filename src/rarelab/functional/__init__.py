"""Pure ranking kernels: tensors in, tensors out; no state, no configuration."""
