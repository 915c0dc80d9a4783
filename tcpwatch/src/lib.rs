//! What a host's TCP connections are doing, and why.
