"""The commands of `dotstream`, one module each; ops/cli mounts them."""
