//! `/memory`, and the gauges `server.memory_*`.

use serde::Serialize;

/// `envoy.admin.v3.Memory`, from the kernel's books; what only tcmalloc knows is 0. Numbers are strings, as protobuf's
/// JSON has them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Memory {
    #[serde(serialize_with = "text")]
    /// Anonymous memory in use, bytes.
    pub allocated: u64,
    #[serde(serialize_with = "text")]
    /// Address space of the heap, bytes.
    pub heap_size: u64,
    #[serde(serialize_with = "text")]
    pageheap_unmapped: u64,
    #[serde(serialize_with = "text")]
    pageheap_free: u64,
    #[serde(serialize_with = "text")]
    total_thread_cache: u64,
    #[serde(serialize_with = "text")]
    /// Resident memory, shared pages included, bytes.
    pub total_physical_bytes: u64,
}

impl Memory {
    /// As it is now; zeroes where `/proc` is not there.
    pub fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.unwrap_or(0).saturating_mul(1024)
        };
        Self {
            allocated: bytes("RssAnon"),
            heap_size: bytes("VmData"),
            total_physical_bytes: bytes("VmRSS"),
            ..Self::default()
        }
    }
}

fn text<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}
