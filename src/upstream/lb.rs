//! Load balancing: which host is next. One file per policy; a policy sees weights and gives an index.

mod round_robin;

pub use round_robin::RoundRobin;
