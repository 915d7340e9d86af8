"""A stand-in for a CUDA device on machines without one.

Tensors on it say "cuda:0", cannot be mixed with tensors on the CPU, and report every wait of the host for the device. Their
numbers are those of the CPU, so that a result can be compared with the CPU's. `python -m tests.standin hessian CKPT --device
cuda` runs a command on it, and lists the waits by line of code.

It cannot show: the speed of a GPU, rounding by other kernels, a race between streams, a fault of a CUDA kernel, memory that
runs out, mixed precision, fused recurrent layers and torch.compile.
"""
