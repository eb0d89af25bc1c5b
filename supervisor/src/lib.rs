//! The supervisor: launches proxy epochs, owns their listening sockets, keeps their statistics.
