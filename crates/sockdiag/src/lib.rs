//! Reads sockets from the kernel.
