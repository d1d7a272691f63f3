// In the place of CUDA's header: on_host.h has what the kernels use of it.
