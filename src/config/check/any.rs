//! Messages within an `Any`, and those that are written as a `TypedStruct`.

use super::Checker;
use crate::config::diagnostic::{Segment, Severity};
use crate::config::schema::Message;
use crate::config::{typed_struct, wire};

impl Checker<'_> {
    pub(super) fn any(&mut self, bytes: &[u8]) {
        let url = String::from_utf8_lossy(wire::last_bytes(bytes, 1));
        if url.is_empty() {
            return;
        }
        match Message::by_url(&url) {
            Some(message) => self.message(message, wire::last_bytes(bytes, 2)),
            None if self.is_foreign(&url) => {}
            None => self.add(Severity::Error, format!("unknown type `{url}`")),
        }
    }

    /// A type that is an extension's own: the extension judges it.
    fn is_foreign(&self, url: &str) -> bool {
        let name = url.rsplit('/').next().unwrap_or_default();
        self.foreign.contains(&name)
    }

    /// A `TypedStruct` is judged as the message that it stands for.
    pub(super) fn typed_struct(&mut self, bytes: &[u8]) {
        let url = String::from_utf8_lossy(wire::last_bytes(bytes, 1)).into_owned();
        let Some(message) = Message::by_url(&url) else {
            if self.is_foreign(&url) {
                return;
            }
            return self.add(Severity::Error, format!("unknown type `{url}` in a TypedStruct"));
        };
        let (resolved, faults) = typed_struct::resolve(bytes, message, self.unknown_fields);
        self.within(Segment::Field("value"), |this| {
            this.message(message, &resolved);
            for mut fault in faults {
                let within = std::mem::take(&mut fault.path.0);
                fault.path.0 = this.path.0.iter().cloned().chain(within).collect();
                fault.position = None;
                this.findings.add(fault);
            }
        });
    }
}
