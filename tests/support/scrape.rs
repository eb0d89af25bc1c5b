//! Reads the admin endpoint's statistics, once or without pause.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::clients::get;
use super::supervised::eventually;

/// The plain numbers of `/stats`: counters and gauges by their full names.
pub(crate) fn stats(admin: SocketAddr) -> BTreeMap<String, i64> {
    let text = body(admin, "/stats").expect("the statistics can be scraped");
    let number = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(number).collect()
}

/// One scrape of `/stats/prometheus`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exposition {
    /// Series with their labels; those that must never fall apart from the others.
    pub(crate) growing: BTreeMap<String, f64>,
    /// Gauges.
    pub(crate) other: BTreeMap<String, f64>,
}

impl Exposition {
    /// Scrapes.
    pub(crate) fn scrape(admin: SocketAddr) -> Result<Self, String> {
        body(admin, "/stats/prometheus").map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut kinds = BTreeMap::new();
        let mut exposition = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                if let Some((name, kind)) = rest.split_once(' ') {
                    kinds.insert(name.to_owned(), kind.to_owned());
                }
            } else if let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) {
                let name = series.split('{').next().unwrap_or_default();
                let suffixes = ["_bucket", "_count", "_sum"];
                let base = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
                let histogram = base.is_some_and(|base| kinds.get(base).is_some_and(|kind| kind == "histogram"));
                let counter = kinds.get(name).is_some_and(|kind| kind == "counter");
                let value = value.parse().unwrap_or(f64::NAN);
                let into = if histogram || counter { &mut exposition.growing } else { &mut exposition.other };
                into.insert(series.to_owned(), value);
            }
        }
        exposition
    }

    /// The one growing series with this name and a label of this value; zero if there is none yet.
    pub(crate) fn growing(&self, name: &str, label: &str) -> f64 {
        let (name, label) = (format!("{name}{{"), format!("\"{label}\""));
        let found = self.growing.iter().filter(|(series, _)| series.starts_with(&name) && series.contains(&label));
        let found: Vec<_> = found.collect();
        assert!(found.len() <= 1, "series {name} with {label}: {found:?}");
        found.first().map_or(0.0, |(_, value)| **value)
    }
}

fn body(admin: SocketAddr, path: &str) -> Result<String, String> {
    match get(admin, path) {
        Ok(answer) if answer.second_word() == "200" => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
        Ok(answer) => Err(answer.first_line),
        Err(failure) => Err(format!("{failure:?}")),
    }
}

/// What a [`Watch`] saw.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// Scrapes that succeeded.
    pub(crate) scrapes: u64,
    /// Those that did not, and why.
    pub(crate) failures: Vec<String>,
    /// Series that fell or vanished: name, before, after.
    pub(crate) fell: Vec<(String, f64, f64)>,
    /// The slowest scrape.
    pub(crate) worst: Duration,
}

/// Scrapes again and again.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    /// Held during each scrape.
    scraping: Arc<Mutex<()>>,
    scrapes: Arc<AtomicU64>,
    thread: Option<JoinHandle<Watched>>,
}

impl Watch {
    /// Starts, with a pause between two scrapes.
    pub(crate) fn start(admin: SocketAddr, every: Duration) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let scraping = Arc::<Mutex<()>>::default();
        let held = scraping.clone();
        let scrapes = Arc::<AtomicU64>::default();
        let counted = scrapes.clone();
        let thread = std::thread::spawn(move || {
            let mut watched = Watched::default();
            let mut last = Exposition::default();
            while !stopped.load(Ordering::Relaxed) {
                let scraping = held.lock().expect("nobody panics with it");
                let begun = Instant::now();
                match Exposition::scrape(admin) {
                    Ok(now) => {
                        watched.scrapes += 1;
                        counted.fetch_add(1, Ordering::Relaxed);
                        watched.fell.extend(fallen(&last, &now));
                        last = now;
                    }
                    Err(failure) => watched.failures.push(failure),
                }
                watched.worst = watched.worst.max(begun.elapsed());
                drop(scraping);
                std::thread::park_timeout(every);
            }
            watched
        });
        Self { stop, scraping, scrapes, thread: Some(thread) }
    }

    /// Waits until `more` further scrapes have succeeded.
    pub(crate) fn progress(&self, more: u64) {
        let goal = self.scrapes.load(Ordering::Relaxed) + more;
        eventually(Duration::from_secs(30), "scrapes succeed", || self.scrapes.load(Ordering::Relaxed) >= goal);
    }

    /// Does something while no scrape is on its way: a killed process answers nobody.
    pub(crate) fn meanwhile(&self, deed: impl FnOnce()) {
        let _scraping = self.scraping.lock().expect("nobody panics with it");
        deed();
    }

    /// Stops, and says what it saw.
    pub(crate) fn stop(mut self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("stopped once");
        thread.thread().unpark();
        thread.join().expect("the watch does not panic")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn fallen(before: &Exposition, after: &Exposition) -> Vec<(String, f64, f64)> {
    let fell = |(series, was): (&String, &f64)| {
        let is = after.growing.get(series).copied().unwrap_or(f64::NAN);
        (is.is_nan() || is < *was).then(|| (series.clone(), *was, is))
    };
    before.growing.iter().filter_map(fell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_is_seen_in_counters_and_histograms_only() {
        let text = |n: u32| {
            format!(
                "# TYPE c counter\nc{{a=\"x\"}} {n}\n# TYPE g gauge\ng{{}} {n}\n# TYPE h histogram\nh_bucket{{le=\"1\"}} {n}\nh_count{{}} {n}\n"
            )
        };
        let (before, after) = (Exposition::parse(&text(2)), Exposition::parse(&text(1)));
        assert_eq!(fallen(&before, &after).len(), 3);
        assert_eq!(fallen(&after, &before).len(), 0);
        assert_eq!(before.growing("c", "x"), 2.0);
        assert_eq!(fallen(&before, &Exposition::default()).len(), 3);
    }
}
