//! What epochs were started with: the one that serves, the one before it, the one that is being tried.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use tracing::warn;

use crate::lifecycle::Launch;
use crate::process::{Recipe, User};

#[derive(Debug)]
pub(super) struct Recipes {
    directory: PathBuf,
    pub(super) current: Option<Recipe>,
    pub(super) previous: Option<Recipe>,
    candidate: Option<(u64, Recipe)>,
}

impl Recipes {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, current: None, previous: None, candidate: None }
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
        Ok(&mut self.candidate.insert((epoch, recipe)).1)
    }

    /// `epoch` has read this configuration.
    pub(super) fn keep(&mut self, epoch: u64, text: Option<Vec<u8>>, user: Option<User>) {
        let Some((_, recipe)) = self.candidate.as_mut().filter(|(candidate, _)| *candidate == epoch) else { return };
        if recipe.copy().is_some() && text.is_none() {
            return;
        }
        // An epoch that does not say what it read gets what stands in the file now: nearly always the same.
        let text = text.or_else(|| recipe.configuration().and_then(|path| fs::read(path).ok()));
        let Some(text) = text else { return };
        if let Err(error) = recipe.keep_configuration(&self.directory, epoch, &text, user) {
            warn!("the configuration of epoch {epoch} cannot be kept for a roll-back: {error}");
        }
    }

    /// `epoch` serves for good.
    pub(super) fn settle(&mut self, epoch: u64, launch: Launch) {
        let Some((_, recipe)) = self.candidate.take().filter(|(candidate, _)| *candidate == epoch) else { return };
        match launch {
            Launch::Current => self.current = Some(recipe),
            Launch::Fresh | Launch::Previous => {
                let replaced = self.current.replace(recipe);
                if replaced.is_some() {
                    self.previous = replaced;
                }
            }
        }
        self.sweep();
    }

    /// `epoch` does not come to serve.
    pub(super) fn call_off(&mut self, epoch: u64) {
        if self.candidate.as_ref().is_some_and(|(candidate, _)| *candidate == epoch) {
            self.candidate = None;
            self.sweep();
        }
    }

    /// Removes every copy: the supervisor ends for good.
    pub(super) fn clear(&mut self) {
        (self.current, self.previous, self.candidate) = (None, None, None);
        self.sweep();
    }

    /// Removes copies that nobody needs any more.
    fn sweep(&self) {
        let candidate = self.candidate.as_ref().map(|(_, recipe)| recipe);
        let kept: Vec<_> = [self.current.as_ref(), self.previous.as_ref(), candidate]
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
}
