//! Compiles every proto of the package to descriptors, in memory.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost_reflect::DescriptorPool;
use prost_types::FileDescriptorProto;
use protox::file::{File, FileResolver, GoogleFileResolver};

use crate::{missing, names};

/// The files by import path.
pub(crate) type Files = HashMap<String, FileDescriptorProto>;

/// Compiles all protos under `package/proto`.
///
/// # Errors
/// A text that names the file that cannot be read or compiled.
pub(crate) fn all_protos(package: &Path) -> Result<DescriptorPool, String> {
    let roots = import_roots(&package.join("proto"))?;
    let mut wanted: Vec<String> = missing::FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
    for root in &roots {
        list(root, root, &mut wanted)?;
    }
    wanted.sort();
    let mut files = parse(&roots, &wanted)?;
    names::make_absolute(&mut files);
    let mut compiler = protox::Compiler::with_file_resolver(InMemory(files));
    // Source information was dropped when the files were parsed; saying that it is wanted spares a slow copy.
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&wanted).map_err(|error| format!("{error:?}"))?;
    Ok(compiler.descriptor_pool())
}

/// The folders that import paths begin at; two of the collections nest theirs one level deeper.
fn import_roots(protos: &Path) -> Result<Vec<PathBuf>, String> {
    let mut roots = Vec::new();
    for folder in entries(protos)?.into_iter().filter(|path| path.is_dir()) {
        roots.push(match folder.file_name().and_then(|name| name.to_str()) {
            Some("cel-spec") => folder.join("proto"),
            Some("ratelimit") => folder.join("api"),
            _ => folder,
        });
    }
    Ok(roots)
}

fn list(root: &Path, folder: &Path, found: &mut Vec<String>) -> Result<(), String> {
    for path in entries(folder)? {
        if path.is_dir() {
            list(root, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            let relative = path.strip_prefix(root).map_err(|error| error.to_string())?;
            found.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let read = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Parses the wanted files and what they import, each once.
fn parse(roots: &[PathBuf], wanted: &[String]) -> Result<Files, String> {
    let mut files = Files::new();
    let mut todo = wanted.to_vec();
    while let Some(name) = todo.pop() {
        if files.contains_key(&name) {
            continue;
        }
        let file = match source(roots, &name) {
            Some(text) => {
                let mut file = protox_parse::parse(&name, &text).map_err(|error| format!("{name}: {error:?}"))?;
                file.source_code_info = None;
                file
            }
            None => {
                let google =
                    GoogleFileResolver::new().open_file(&name).map_err(|error| format!("{name}: {error:?}"))?;
                google.file_descriptor_proto().clone()
            }
        };
        todo.extend(file.dependency.iter().cloned());
        files.insert(name, file);
    }
    Ok(files)
}

fn source(roots: &[PathBuf], name: &str) -> Option<String> {
    if let Some((_, text)) = missing::FILES.iter().find(|(path, _)| *path == name) {
        return Some((*text).to_owned());
    }
    roots.iter().find_map(|root| fs::read_to_string(root.join(name)).ok())
}

struct InMemory(Files);

impl FileResolver for InMemory {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(file) => Ok(File::from_file_descriptor_proto(file.clone())),
            None => GoogleFileResolver::new().open_file(name),
        }
    }
}
