//! Dockerfile to image: instructions, graph, cache key, execute or reuse.
