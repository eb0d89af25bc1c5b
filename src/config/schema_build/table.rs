//! Flattens descriptors and constraint rules into one position-independent table.
//!
//! ```text
//! seven pairs (offset, length), u32 little endian, one per section; every section begins at a multiple of four
//!   0 messages  name, first field, u16 fields, u16 first oneof, u8 oneofs, u8 well-known, u16 flags      16 bytes, by name
//!   1 fields    number, name, u8 kind, u8 oneof, u16 flags, u16 type, u16 0, rules                       20 bytes, by number
//!   2 oneofs    name, required                                                                            8 bytes
//!   3 enums     name, first value, values                                                                12 bytes
//!   4 values    number, name, flags                                                                      12 bytes
//!   5 strings   a reference is offset << 10 | length
//!   6 rules     u16 length, then an encoded validate.FieldRules; reference 0 is none
//! ```
//! `src/config/schema.rs` is the reader; the two change together.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind,
    MessageDescriptor, Value,
};

/// Bytes of the table for every message and enum of the pool.
///
/// # Errors
/// A text, when the protos hold something that the layout has no room for.
pub(crate) fn flatten(pool: &DescriptorPool) -> Result<Vec<u8>, String> {
    Table::new(pool)?.write()
}

/// Field flags, as the reader knows them.
mod flag {
    pub(super) const REPEATED: u16 = 1;
    pub(super) const MAP: u16 = 2;
    pub(super) const PACKED: u16 = 4;
    pub(super) const PRESENCE: u16 = 8;
    pub(super) const DEPRECATED: u16 = 16;
    pub(super) const DISALLOWED: u16 = 32;
    pub(super) const SENSITIVE: u16 = 64;
    pub(super) const WORK_IN_PROGRESS: u16 = 128;
}

/// No oneof, no type.
const NO_ONEOF: u8 = 0xff;
const NO_TYPE: u16 = 0xffff;

/// The options of the API's own that the table keeps.
struct Annotations {
    rules: ExtensionDescriptor,
    oneof_required: ExtensionDescriptor,
    sensitive: ExtensionDescriptor,
    disallowed: ExtensionDescriptor,
    disallowed_value: ExtensionDescriptor,
    field_status: ExtensionDescriptor,
    message_status: ExtensionDescriptor,
}

impl Annotations {
    fn new(pool: &DescriptorPool) -> Result<Self, String> {
        let get =
            |name: &str| pool.get_extension_by_name(name).ok_or_else(|| format!("no option {name} in the protos"));
        Ok(Self {
            rules: get("validate.rules")?,
            oneof_required: get("validate.required")?,
            sensitive: get("udpa.annotations.sensitive")?,
            disallowed: get("envoy.annotations.disallowed_by_default")?,
            disallowed_value: get("envoy.annotations.disallowed_by_default_enum")?,
            field_status: get("xds.annotations.v3.field_status")?,
            message_status: get("xds.annotations.v3.message_status")?,
        })
    }
}

struct Table {
    annotations: Annotations,
    messages: BTreeMap<String, MessageDescriptor>,
    enums: BTreeMap<String, EnumDescriptor>,
    strings: Strings,
    rules: Rules,
    fields: Vec<u8>,
    field_count: u32,
    oneofs: Vec<u8>,
    oneof_count: u16,
}

impl Table {
    fn new(pool: &DescriptorPool) -> Result<Self, String> {
        // What describes protos themselves never stands in a configuration.
        let kept =
            |name: &str, file: &str| !name.starts_with("validate.") && file != "google/protobuf/descriptor.proto";
        let messages = pool.all_messages().filter(|m| kept(m.full_name(), m.parent_file().name()));
        let enums = pool.all_enums().filter(|e| kept(e.full_name(), e.parent_file().name()));
        Ok(Self {
            annotations: Annotations::new(pool)?,
            messages: messages.map(|message| (message.full_name().to_owned(), message)).collect(),
            enums: enums.map(|one| (one.full_name().to_owned(), one)).collect(),
            strings: Strings::default(),
            rules: Rules { bytes: vec![0], known: HashMap::new() },
            fields: Vec::new(),
            field_count: 0,
            oneofs: Vec::new(),
            oneof_count: 0,
        })
    }

    fn write(mut self) -> Result<Vec<u8>, String> {
        let messages = std::mem::take(&mut self.messages);
        let enums = std::mem::take(&mut self.enums);
        let types = Types { messages: numbered(messages.keys())?, enums: numbered(enums.keys())? };
        let mut message_section = Vec::new();
        for (name, message) in &messages {
            self.message(name, message, &types, &mut message_section)?;
        }
        let (enum_section, value_section) = self.enums(&enums)?;
        let sections = [
            message_section,
            self.fields,
            self.oneofs,
            enum_section,
            value_section,
            self.strings.bytes,
            self.rules.bytes,
        ];
        let mut table = Vec::new();
        let mut offset = sections.len() * 8;
        for section in &sections {
            table.extend(u32_of(offset)?.to_le_bytes());
            table.extend(u32_of(section.len())?.to_le_bytes());
            offset += section.len().next_multiple_of(4);
        }
        for section in &sections {
            table.extend_from_slice(section);
            table.resize(table.len().next_multiple_of(4), 0);
        }
        Ok(table)
    }

    fn message(
        &mut self,
        name: &str,
        message: &MessageDescriptor,
        types: &Types,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let mut fields: Vec<FieldDescriptor> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let oneofs: Vec<_> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
        let oneof_names: Vec<String> = oneofs.iter().map(|oneof| oneof.name().to_owned()).collect();
        let in_progress = is_set(&message.options(), &self.annotations.message_status);
        out.extend(self.strings.add(name)?.to_le_bytes());
        out.extend(self.field_count.to_le_bytes());
        out.extend(u16_of(fields.len())?.to_le_bytes());
        out.extend(self.oneof_count.to_le_bytes());
        out.extend([u8::try_from(oneofs.len()).map_err(|e| e.to_string())?, well_known(name)]);
        out.extend((u16::from(message.is_map_entry()) | u16::from(in_progress) << 1).to_le_bytes());
        for oneof in &oneofs {
            let required = is_set(&oneof.options(), &self.annotations.oneof_required);
            self.oneofs.extend(self.strings.add(oneof.name())?.to_le_bytes());
            self.oneofs.extend(u32::from(required).to_le_bytes());
            self.oneof_count += 1;
        }
        for field in fields {
            self.field(&field, &oneof_names, types)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &FieldDescriptor, oneofs: &[String], types: &Types) -> Result<(), String> {
        // The reader derives JSON names from proto names.
        if field.json_name() != camel(field.name()) {
            return Err(format!("{} has a JSON name of its own", field.full_name()));
        }
        let (kind, of) = kind_of(field, types);
        let oneof = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        let oneof = oneof.and_then(|oneof| oneofs.iter().position(|name| name == oneof.name()));
        let oneof = oneof.and_then(|at| u8::try_from(at).ok()).unwrap_or(NO_ONEOF);
        let rules = self.rules_of(field)?;
        self.fields.extend(field.number().to_le_bytes());
        self.fields.extend(self.strings.add(field.name())?.to_le_bytes());
        self.fields.extend([kind, oneof]);
        self.fields.extend(self.flags_of(field).to_le_bytes());
        self.fields.extend(of.to_le_bytes());
        self.fields.extend([0, 0]);
        self.fields.extend(rules.to_le_bytes());
        self.field_count += 1;
        Ok(())
    }

    fn flags_of(&self, field: &FieldDescriptor) -> u16 {
        let options = field.options();
        let mut flags = 0;
        let mut set = |on: bool, flag: u16| flags |= if on { flag } else { 0 };
        set(field.cardinality() == Cardinality::Repeated, flag::REPEATED);
        set(field.is_map(), flag::MAP);
        set(field.is_packed(), flag::PACKED);
        set(field.supports_presence(), flag::PRESENCE);
        set(is_deprecated(&options), flag::DEPRECATED);
        set(is_set(&options, &self.annotations.disallowed), flag::DISALLOWED);
        set(is_set(&options, &self.annotations.sensitive), flag::SENSITIVE);
        set(is_set(&options, &self.annotations.field_status), flag::WORK_IN_PROGRESS);
        flags
    }

    fn rules_of(&mut self, field: &FieldDescriptor) -> Result<u32, String> {
        let options = field.options();
        if !options.has_extension(&self.annotations.rules) {
            return Ok(0);
        }
        match options.get_extension(&self.annotations.rules).as_ref() {
            Value::Message(rules) => self.rules.add(rules.encode_to_vec()),
            _ => Err(format!("the rules of {} are no message", field.full_name())),
        }
    }

    fn enums(&mut self, enums: &BTreeMap<String, EnumDescriptor>) -> Result<(Vec<u8>, Vec<u8>), String> {
        let (mut out, mut values, mut count) = (Vec::new(), Vec::new(), 0u32);
        for (name, one) in enums {
            let all: Vec<_> = one.values().collect();
            out.extend(self.strings.add(name)?.to_le_bytes());
            out.extend(count.to_le_bytes());
            out.extend(u32_of(all.len())?.to_le_bytes());
            for value in all {
                let options = value.options();
                let disallowed = is_set(&options, &self.annotations.disallowed_value);
                values.extend(value.number().to_le_bytes());
                values.extend(self.strings.add(value.name())?.to_le_bytes());
                values.extend((u32::from(is_deprecated(&options)) | u32::from(disallowed) << 1).to_le_bytes());
                count += 1;
            }
        }
        Ok((out, values))
    }
}

/// Position of every type in its section.
struct Types {
    messages: HashMap<String, u16>,
    enums: HashMap<String, u16>,
}

#[derive(Default)]
struct Strings {
    bytes: Vec<u8>,
    known: HashMap<String, u32>,
}

impl Strings {
    fn add(&mut self, text: &str) -> Result<u32, String> {
        if let Some(reference) = self.known.get(text) {
            return Ok(*reference);
        }
        if text.len() >= 1 << 10 || self.bytes.len() >= 1 << 22 {
            return Err(format!("no room for the name {text}"));
        }
        let reference = u32_of(self.bytes.len())? << 10 | u32_of(text.len())?;
        self.bytes.extend_from_slice(text.as_bytes());
        self.known.insert(text.to_owned(), reference);
        Ok(reference)
    }
}

struct Rules {
    bytes: Vec<u8>,
    known: HashMap<Vec<u8>, u32>,
}

impl Rules {
    fn add(&mut self, rules: Vec<u8>) -> Result<u32, String> {
        if rules.is_empty() {
            return Ok(0);
        }
        if let Some(reference) = self.known.get(&rules) {
            return Ok(*reference);
        }
        let reference = u32_of(self.bytes.len())?;
        self.bytes.extend(u16_of(rules.len())?.to_le_bytes());
        self.bytes.extend(&rules);
        self.known.insert(rules, reference);
        Ok(reference)
    }
}

/// Numbers of the reader's `WellKnown`.
fn well_known(name: &str) -> u8 {
    match name {
        "google.protobuf.Any" => 1,
        "google.protobuf.Duration" => 2,
        "google.protobuf.Timestamp" => 3,
        "google.protobuf.Struct" => 4,
        "google.protobuf.Value" => 5,
        "google.protobuf.ListValue" => 6,
        "google.protobuf.FieldMask" => 7,
        "google.protobuf.Empty" => 9,
        wrapper if wrapper.starts_with("google.protobuf.") && wrapper.ends_with("Value") => 8,
        _ => 0,
    }
}

/// The number that `descriptor.proto` gives the type, and the position of the message or enum.
fn kind_of(field: &FieldDescriptor, types: &Types) -> (u8, u16) {
    match field.kind() {
        Kind::Double => (1, 0),
        Kind::Float => (2, 0),
        Kind::Int64 => (3, 0),
        Kind::Uint64 => (4, 0),
        Kind::Int32 => (5, 0),
        Kind::Fixed64 => (6, 0),
        Kind::Fixed32 => (7, 0),
        Kind::Bool => (8, 0),
        Kind::String => (9, 0),
        Kind::Message(of) => (11, types.messages.get(of.full_name()).copied().unwrap_or(NO_TYPE)),
        Kind::Bytes => (12, 0),
        Kind::Uint32 => (13, 0),
        Kind::Enum(of) => (14, types.enums.get(of.full_name()).copied().unwrap_or(NO_TYPE)),
        Kind::Sfixed32 => (15, 0),
        Kind::Sfixed64 => (16, 0),
        Kind::Sint32 => (17, 0),
        Kind::Sint64 => (18, 0),
    }
}

/// A boolean option, or a status message that says "work in progress".
fn is_set(options: &DynamicMessage, option: &ExtensionDescriptor) -> bool {
    match options.get_extension(option).as_ref() {
        Value::Bool(on) => *on,
        Value::Message(status) => {
            status.get_field_by_name("work_in_progress").is_some_and(|value| value.as_bool() == Some(true))
        }
        _ => false,
    }
}

fn is_deprecated(options: &DynamicMessage) -> bool {
    options.get_field_by_name("deprecated").is_some_and(|value| value.as_bool() == Some(true))
}

fn numbered<'a>(names: impl Iterator<Item = &'a String>) -> Result<HashMap<String, u16>, String> {
    names.enumerate().map(|(at, name)| Ok((name.clone(), u16_of(at)?))).collect()
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

fn u16_of(value: usize) -> Result<u16, String> {
    u16::try_from(value).map_err(|error| error.to_string())
}

fn u32_of(value: usize) -> Result<u32, String> {
    u32::try_from(value).map_err(|error| error.to_string())
}
