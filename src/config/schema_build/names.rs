//! Makes relative type names absolute, with `protoc`'s rule of what a file can see.
//!
//! A name such as `common.dynamic_forward_proxy.v3.DnsCacheConfig` inside package
//! `envoy.extensions.clusters.dynamic_forward_proxy.v3` must be looked up among the file itself, its imports and their public
//! imports. The resolver in use looks at every file loaded so far, finds a scope called `common` that the file cannot see, and
//! gives up. Names that are absolute already leave it nothing to choose.

use std::collections::{HashMap, HashSet};

use prost_types::DescriptorProto;

use crate::compile::Files;

/// Rewrites every relative type name of `files` that can be resolved; what cannot is left for the compiler to report.
pub(crate) fn make_absolute(files: &mut Files) {
    let declared: HashMap<String, Vec<String>> =
        files.iter().map(|(name, file)| (name.clone(), types_of(file))).collect();
    let public: HashMap<String, Vec<String>> = files
        .iter()
        .map(|(name, file)| {
            let imports = file.public_dependency.iter().filter_map(|at| file.dependency.get(*at as usize)).cloned();
            (name.clone(), imports.collect())
        })
        .collect();
    for (name, file) in files.iter_mut() {
        let mut visible = vec![name.clone()];
        visible.extend(file.dependency.iter().cloned());
        let mut at = 1;
        while let Some(import) = visible.get(at) {
            let more = public.get(import).cloned().unwrap_or_default();
            visible.extend(more);
            at += 1;
        }
        let types: HashSet<&str> =
            visible.iter().filter_map(|file| declared.get(file)).flatten().map(String::as_str).collect();
        let package = file.package().to_owned();
        for message in &mut file.message_type {
            rewrite(&package, message, &types);
        }
    }
}

fn types_of(file: &prost_types::FileDescriptorProto) -> Vec<String> {
    let mut found = Vec::new();
    for message in &file.message_type {
        nested_types(file.package(), message, &mut found);
    }
    found.extend(file.enum_type.iter().map(|one| format!("{}.{}", file.package(), one.name())));
    found
}

fn nested_types(scope: &str, message: &DescriptorProto, found: &mut Vec<String>) {
    let full = format!("{scope}.{}", message.name());
    found.extend(message.enum_type.iter().map(|one| format!("{full}.{}", one.name())));
    for nested in &message.nested_type {
        nested_types(&full, nested, found);
    }
    found.push(full);
}

fn rewrite(scope: &str, message: &mut DescriptorProto, types: &HashSet<&str>) {
    let full = format!("{scope}.{}", message.name());
    for field in &mut message.field {
        if let Some(name) = field.type_name.as_mut().filter(|name| !name.starts_with('.'))
            && let Some(found) = resolve(&full, name, types)
        {
            *name = found;
        }
    }
    for nested in &mut message.nested_type {
        rewrite(&full, nested, types);
    }
}

/// The innermost scope in which the whole name exists.
fn resolve(scope: &str, name: &str, types: &HashSet<&str>) -> Option<String> {
    let mut scope = scope;
    loop {
        let candidate = if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") };
        if types.contains(candidate.as_str()) {
            return Some(format!(".{candidate}"));
        }
        if scope.is_empty() {
            return None;
        }
        scope = scope.rfind('.').map_or("", |dot| &scope[..dot]);
    }
}
