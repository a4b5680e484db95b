"""One Faust agent per input topic: take a batch, decode it, fold it, emit."""
