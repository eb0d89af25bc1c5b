//! A layer from a directory: folders joined by dots are the name of a value, a file's content is the value.
//!
//! What is read is bounded, and all or nothing: a layer of which a part cannot be read is a layer that cannot be read. Reading blocks; whoever calls is on a thread
//! that may.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use thiserror::Error;

use super::snapshot::Layer;
use super::value::Value;

/// Folders within folders, as Envoy has it.
const MAX_DEPTH: usize = 16;
/// Values of one layer.
const MAX_VALUES: usize = 100_000;
/// Bytes of one value.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a layer cannot be read.
#[derive(Debug, Error)]
pub enum Fault {
    /// A folder or a file, in the system's words.
    #[error("'{0}': {1}")]
    Io(String, io::Error),
    /// A name that is no text.
    #[error("'{0}': a name is not UTF-8")]
    Name(String),
    /// More than is reasonable.
    #[error("'{0}': {1}")]
    TooMuch(String, &'static str),
}

/// What a place is, to be compared with what it was: a symbolic link that is swapped is another one, and so is a folder that is moved there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

/// Of the link itself, not of what it leads to. A folder that is no link is the same whatever is done in it.
pub fn identity(path: &Path) -> Option<Identity> {
    let facts = fs::symlink_metadata(path).ok()?;
    let changed = if facts.is_symlink() { (facts.ctime(), facts.ctime_nsec()) } else { (0, 0) };
    Some(Identity { device: facts.dev(), inode: facts.ino(), changed })
}

/// Reads a layer; `None` where there is no such folder.
///
/// # Errors
/// See [`Fault`].
pub fn read(name: &str, folder: &Path) -> Result<Option<Layer>, Fault> {
    if !folder.is_dir() {
        return Ok(None);
    }
    let mut values = BTreeMap::new();
    walk(folder, "", 0, &mut values)?;
    Ok(Some(Layer { name: name.to_owned(), values }))
}

fn walk(folder: &Path, prefix: &str, depth: usize, values: &mut BTreeMap<String, Value>) -> Result<(), Fault> {
    let shown = |path: &Path| path.display().to_string();
    if depth == MAX_DEPTH {
        return Err(Fault::TooMuch(shown(folder), "too many folders within one another"));
    }
    for entry in fs::read_dir(folder).map_err(|error| Fault::Io(shown(folder), error))? {
        let path = entry.map_err(|error| Fault::Io(shown(folder), error))?.path();
        let own = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| Fault::Name(shown(&path)))?;
        let name = if prefix.is_empty() { own.to_owned() } else { format!("{prefix}.{own}") };
        // Follows links, as what is mounted into containers consists of them.
        let facts = fs::metadata(&path).map_err(|error| Fault::Io(shown(&path), error))?;
        if facts.is_dir() {
            // Where such mounts keep what the links lead to.
            if !own.starts_with("..") {
                walk(&path, &name, depth + 1, values)?;
            }
        } else if facts.is_file() {
            if values.len() == MAX_VALUES {
                return Err(Fault::TooMuch(shown(folder), "too many values"));
            }
            let text = content(&path).map_err(|error| Fault::Io(shown(&path), error))?;
            values.insert(name, Value::of_text(text));
        }
    }
    Ok(())
}

/// Lines that begin with `#` are for people; blanks at the end are nobody's.
fn content(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a value is longer than 64 KiB"));
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    Ok(lines.join("\n").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn folders_make_names_and_files_values() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "a/b", "# why\n 12 \n\n");
        put(root.path(), "c", "numerator: 5\ndenominator: MILLION\n");
        put(root.path(), "..data/c", "not twice");
        let layer = read("disk", root.path()).unwrap().unwrap();
        let shown: Vec<_> = layer.values.iter().map(|(name, value)| (name.as_str(), value.text())).collect();
        assert_eq!(shown, [("a.b", " 12"), ("c", "numerator: 5\ndenominator: MILLION")]);
        assert!(read("disk", &root.path().join("nowhere")).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_read_spoils_the_layer() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "a", "1");
        fs::write(root.path().join("b"), [0xff, 0xfe]).unwrap();
        assert!(matches!(read("disk", root.path()), Err(Fault::Io(..))));
        fs::write(root.path().join("b"), vec![b'x'; 65 * 1024]).unwrap();
        assert!(read("disk", root.path()).unwrap_err().to_string().contains("64 KiB"));
        fs::remove_file(root.path().join("b")).unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        assert!(matches!(read("disk", root.path()), Err(Fault::TooMuch(..))), "a loop ends");
    }

    #[test]
    fn a_swapped_link_is_another() {
        let root = tempfile::tempdir().unwrap();
        let link = root.path().join("current");
        std::os::unix::fs::symlink("one", &link).unwrap();
        let before = identity(&link).unwrap();
        assert_eq!(identity(&link), Some(before));
        let new = root.path().join("new");
        std::os::unix::fs::symlink("two", &new).unwrap();
        fs::rename(&new, &link).unwrap();
        assert_ne!(identity(&link), Some(before));
        assert_eq!(identity(&new), None);
    }
}
