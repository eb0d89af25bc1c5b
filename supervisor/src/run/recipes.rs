//! What epochs were started with: the one that serves, the one before it, the one that is being tried.
//!
//! They are written down in the run directory whenever they change, whole or not at all, so that a supervisor that comes after a death can still roll
//! back, and starts what crashed with what it was started with. What is read back is used only while epochs of that time live, and only what is
//! still there: a binary by its identity, a copy of a configuration by its file.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::lifecycle::Launch;
use crate::process::{Kept, Recipe, User};

/// The file's name in the run directory.
const FILE: &str = "recipes";
/// Of the shape of [`Book`].
const FORMAT: u32 = 1;
/// Longest file that is read, in bytes.
const LONGEST: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Recipes {
    directory: PathBuf,
    pub(super) current: Option<Recipe>,
    pub(super) previous: Option<Recipe>,
    /// What was the previous one until the last takeover, while that can be taken back.
    pub(super) before: Option<Recipe>,
    candidate: Option<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    epoch: u64,
    launch: Launch,
    recipe: Recipe,
}

/// [`Recipes`] as a file.
#[derive(Debug, Serialize, Deserialize)]
struct Book {
    format: u32,
    /// Of the system: what was written before it booted is of no use.
    boot: String,
    current: Option<Kept>,
    previous: Option<Kept>,
    candidate: Option<(u64, Launch, Kept)>,
}

impl Recipes {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, current: None, previous: None, before: None, candidate: None }
    }

    /// Reads what an earlier supervisor has written down; `living` are the processes of its epochs.
    pub(super) fn restore(&mut self, living: &[u32]) {
        let book = match read(&self.directory.join(FILE)) {
            Ok(Some(book)) => book,
            Ok(None) => return,
            Err(error) => return warn!("what an earlier supervisor started epochs with is not used: {error}"),
        };
        let revive = |what: &str, kept: Option<Kept>| match kept?.revive(&self.directory, living) {
            Ok(recipe) => Some(recipe),
            Err(reason) => {
                warn!("the {what} binary and configuration of an earlier supervisor are not used: {reason}");
                None
            }
        };
        let current = revive("current", book.current);
        let previous = revive("previous", book.previous);
        let candidate = book.candidate.and_then(|(epoch, launch, kept)| {
            let recipe = revive("newest", Some(kept))?;
            Some(Candidate { epoch, launch, recipe })
        });
        info!(
            current = current.is_some(),
            previous = previous.is_some(),
            "binaries and configurations of an earlier supervisor are known"
        );
        (self.current, self.previous, self.candidate) = (current, previous, candidate);
    }

    /// What to start `epoch` with.
    pub(super) fn draw(&mut self, epoch: u64, launch: Launch, command: &[OsString]) -> io::Result<&mut Recipe> {
        let known = match launch {
            Launch::Fresh => None,
            Launch::Current => self.current.as_ref(),
            Launch::Previous => self.previous.as_ref(),
        };
        let recipe = match known {
            Some(recipe) => recipe.again()?,
            None => Recipe::fresh(command)?,
        };
        Ok(&mut self.candidate.insert(Candidate { epoch, launch, recipe }).recipe)
    }

    /// `epoch` has read this configuration.
    pub(super) fn keep(&mut self, epoch: u64, text: Option<Vec<u8>>, user: Option<User>) {
        let Some(Candidate { recipe, .. }) = self.candidate.as_mut().filter(|candidate| candidate.epoch == epoch)
        else {
            return;
        };
        if recipe.copy().is_some() && text.is_none() {
            return;
        }
        // An epoch that does not say what it read gets what stands in the file now: nearly always the same.
        let text = text.or_else(|| recipe.configuration().and_then(|path| fs::read(path).ok()));
        let Some(text) = text else { return };
        if let Err(error) = recipe.keep_configuration(&self.directory, epoch, &text, user) {
            warn!("the configuration of epoch {epoch} cannot be kept for a roll-back: {error}");
        }
        self.write();
    }

    /// `epoch` serves.
    pub(super) fn settle(&mut self, epoch: u64) {
        let Some(Candidate { launch, recipe, .. }) = self.candidate.take_if(|candidate| candidate.epoch == epoch)
        else {
            return;
        };
        match launch {
            Launch::Current => self.current = Some(recipe),
            Launch::Fresh | Launch::Previous => {
                let replaced = self.current.replace(recipe);
                if replaced.is_some() {
                    self.before = std::mem::replace(&mut self.previous, replaced);
                }
            }
        }
        self.sweep();
    }

    /// What serves is not taken back any more.
    pub(super) fn confirm(&mut self) {
        if self.before.take().is_some() {
            self.sweep();
        }
    }

    /// What was settled last is taken back.
    pub(super) fn revert(&mut self) {
        if self.previous.is_some() {
            self.current = self.previous.take();
            self.previous = self.before.take();
        }
        self.sweep();
    }

    /// `epoch` does not come to serve.
    pub(super) fn call_off(&mut self, epoch: u64) {
        if self.candidate.take_if(|candidate| candidate.epoch == epoch).is_some() {
            self.sweep();
        }
    }

    /// Removes every copy: the supervisor ends for good.
    pub(super) fn clear(&mut self) {
        (self.current, self.previous, self.before, self.candidate) = (None, None, None, None);
        self.sweep();
        let _ = fs::remove_file(self.directory.join(FILE));
    }

    /// Removes copies that nobody needs any more, and writes down what is left.
    fn sweep(&self) {
        self.write();
        let candidate = self.candidate.as_ref().map(|candidate| &candidate.recipe);
        let kept: Vec<_> = [self.current.as_ref(), self.previous.as_ref(), self.before.as_ref(), candidate]
            .into_iter()
            .flatten()
            .filter_map(Recipe::copy)
            .collect();
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("config-"));
            if ours && !kept.contains(&path.as_path()) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// For the next supervisor, should this one die.
    pub(super) fn write(&self) {
        let book = Book {
            format: FORMAT,
            boot: boot(),
            current: self.current.as_ref().map(Recipe::kept),
            previous: self.previous.as_ref().map(Recipe::kept),
            candidate: self.candidate.as_ref().map(|candidate| {
                let Candidate { epoch, launch, recipe } = candidate;
                (*epoch, *launch, recipe.kept())
            }),
        };
        let text = serde_json::to_vec(&book).map_err(io::Error::other);
        if let Err(error) = text.and_then(|text| replace(&self.directory.join(FILE), &text)) {
            warn!("{} cannot be written; a next supervisor could not roll back: {error}", FILE);
        }
    }
}

/// Replaces a file of the run directory: a reader, and who comes after a death at any instant, finds the old text or the new one. Not synchronised with
/// the disk: nothing of it is wanted after the system has ended.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text).and_then(|()| fs::rename(&new, path)).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

fn read(path: &Path) -> Result<Option<Book>, String> {
    let within = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| within(&error))?,
    };
    let metadata = file.metadata().map_err(|error| within(&error))?;
    // The directory may belong to the epochs' user, who must not tell a supervisor of more rights what to run.
    if !metadata.is_file() || metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(within(&"it is not a file of ours alone"));
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(|error| within(&error))?;
    parse(&text).map(Some).map_err(|error| within(&error))
}

fn parse(text: &[u8]) -> Result<Book, String> {
    let book: Book = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if book.format != FORMAT {
        return Err(format!("it has format {}, this supervisor reads {FORMAT}", book.format));
    }
    if book.boot != boot() {
        return Err("it was written before the system was booted".into());
    }
    Ok(book)
}

/// A book of recipes as somebody may have left it; `BOOT` stands for this boot of the system.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(book) = parse(text.replace("BOOT", &boot()).as_bytes()) else { return };
    for kept in [book.current, book.previous, book.candidate.map(|(_, _, kept)| kept)].into_iter().flatten() {
        if let Ok(recipe) = kept.revive(Path::new("/nonexistent"), &[std::process::id()]) {
            let _ = recipe.again();
        }
    }
}

/// Which boot of the system this is; empty where that cannot be told.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipes(directory: &Path) -> Recipes {
        Recipes::new(directory.into())
    }

    fn command(directory: &Path) -> Vec<OsString> {
        vec!["/bin/true".into(), "-c".into(), directory.join("proxy.yaml").into()]
    }

    /// A takeover to what `text` says.
    fn takeover(recipes: &mut Recipes, directory: &Path, epoch: u64, text: &str) {
        recipes.draw(epoch, Launch::Fresh, &command(directory)).unwrap();
        recipes.keep(epoch, Some(text.into()), None);
        recipes.settle(epoch);
    }

    fn texts(recipes: &Recipes) -> [Option<String>; 2] {
        [&recipes.current, &recipes.previous]
            .map(|recipe| recipe.as_ref().and_then(Recipe::copy).and_then(|copy| fs::read_to_string(copy).ok()))
    }

    fn both(current: &str, previous: &str) -> [Option<String>; 2] {
        [current, previous].map(|text| Some(text.to_owned()))
    }

    #[test]
    fn what_is_written_down_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = recipes(directory.path());
        takeover(&mut first, directory.path(), 0, "zero");
        takeover(&mut first, directory.path(), 1, "one");
        first.confirm();
        // It dies with a third one under way.
        first.draw(2, Launch::Fresh, &command(directory.path())).unwrap();
        first.keep(2, Some("two".into()), None);
        let mut second = recipes(directory.path());
        second.restore(&[]);
        assert_eq!(texts(&second), both("one", "zero"));
        let mut third = recipes(directory.path());
        third.restore(&[]);
        // It turns out that the third had come to serve.
        third.settle(2);
        assert_eq!(texts(&third), both("two", "one"));
        third.clear();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_settled_last_can_be_taken_back_until_it_is_confirmed() {
        let directory = tempfile::tempdir().unwrap();
        let mut recipes = recipes(directory.path());
        for (epoch, text) in (0..).zip(["zero", "one", "two"]) {
            takeover(&mut recipes, directory.path(), epoch, text);
        }
        assert_eq!(texts(&recipes), both("two", "one"));
        recipes.revert();
        assert_eq!(texts(&recipes), both("one", "zero"));
        takeover(&mut recipes, directory.path(), 3, "three");
        recipes.confirm();
        assert_eq!(texts(&recipes), both("three", "one"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "two copies and the book");
    }

    #[test]
    fn what_is_stale_damaged_or_foreign_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let mut first = recipes(directory.path());
        takeover(&mut first, directory.path(), 0, "zero");
        takeover(&mut first, directory.path(), 1, "one");
        let good = fs::read_to_string(&path).unwrap();
        let known = || {
            let mut next = recipes(directory.path());
            next.restore(&[]);
            [next.current.is_some(), next.previous.is_some()]
        };
        assert_eq!(known(), [true, true]);
        let bad = [
            String::new(),
            "{".into(),
            good.replace("\"format\":1", "\"format\":2"),
            good.replace(&boot(), "of another life"),
            good.chars().take(good.len() / 2).collect(),
        ];
        for text in bad {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(known(), [false, false], "{text}");
        }
        // A copy that is gone, and one that is elsewhere.
        replace(&path, good.as_bytes()).unwrap();
        fs::remove_file(directory.path().join("config-0.yaml")).unwrap();
        assert_eq!(known(), [true, false]);
        replace(&path, good.replace("config-1.yaml", "../config-1.yaml").as_bytes()).unwrap();
        assert_eq!(known(), [false, false]);
        // One that somebody else may write.
        replace(&path, good.as_bytes()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(&path, mode).unwrap();
        assert_eq!(known(), [false, false]);
        let other = directory.path().join("other");
        fs::rename(&path, &other).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert_eq!(known(), [false, false]);
    }
}
