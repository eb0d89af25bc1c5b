//! A supervisor in a directory of its own, a client that never retries, and patience with a limit.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition; `what` names it.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never came that {what}");
        std::thread::yield_now();
        pause();
    }
}

/// Lets others run between two looks at a condition; no test depends on its length.
fn pause() {
    let (a, _b) = UnixStream::pair().unwrap();
    a.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let _ = (&a).read(&mut [0]);
}

/// Where cargo puts the stand-in.
pub(crate) fn fake_epoch() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/fake_epoch");
    assert!(path.exists(), "{} is not built; cargo test builds it", path.display());
    path
}

pub(crate) fn supervisor() -> PathBuf {
    env!("CARGO_BIN_EXE_heirloom-supervisor").into()
}

/// A running supervisor.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) child: Child,
    lines: Vec<String>,
    flags: Vec<String>,
    epoch: PathBuf,
    program: PathBuf,
}

impl Bench {
    /// With one listener and short times.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    pub(crate) fn start_with(lines: &[&str], flags: &[&str]) -> Self {
        let bench = Self::prepared(lines, flags);
        let bench = bench.launched();
        eventually("the first epoch serves", || bench.ask().is_ok());
        bench
    }

    /// A supervisor that has been started, whatever became of it.
    pub(crate) fn prepared(lines: &[&str], flags: &[&str]) -> Prepared {
        let dir = tempfile::Builder::new().prefix("heirloom-supervisor-").tempdir().unwrap();
        let defaults = [
            "--probation-time-s=0.3",
            "--prepare-time-s=3",
            "--ready-time-s=0.5",
            "--commit-time-s=0.5",
            "--terminate-time-s=0.5",
            "--stop-time-s=1",
            "--parent-shutdown-time-s=60",
        ];
        let flags = defaults.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
        let mut all = vec!["marker first".to_owned(), format!("listen unix {}", dir.path().join("s").display())];
        all.extend(lines.iter().map(|line| (*line).to_owned()));
        Prepared { dir, lines: all, flags, epoch: fake_epoch(), program: supervisor() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces the configuration: the listener and these lines.
    pub(crate) fn configure(&self, lines: &[&str]) {
        let mut text = format!("listen unix {}\n", self.path("s").display());
        lines.iter().for_each(|line| text += &format!("{line}\n"));
        replace(&self.path("c.conf"), &text);
    }

    /// Asks as one client, once: the number of the epoch and its marker.
    pub(crate) fn ask(&self) -> std::io::Result<(u64, String)> {
        ask(&self.path("s"))
    }

    pub(crate) fn operator(&self, arguments: &[&str]) -> Operated {
        let mut command = Command::new(supervisor());
        command.args(arguments).arg("--run-dir").arg(self.path("run")).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Operated { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    pub(crate) fn reload(&self) {
        let operated = self.operator(&["reload"]);
        assert!(operated.status.success(), "{operated:?}\n{}", self.log());
    }

    pub(crate) fn status(&self) -> Value {
        let operated = self.operator(&["status", "--json"]);
        assert!(operated.status.success(), "{operated:?}\n{}", self.log());
        serde_json::from_str(&operated.stdout).unwrap()
    }

    /// (epoch, pid, state) of every living epoch.
    pub(crate) fn epochs(&self) -> Vec<(u64, i32, String)> {
        let status = self.status();
        let rows = status["epochs"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rows.map(|row| (row["epoch"].as_u64().unwrap(), row["pid"].as_i64().unwrap() as i32, text(&row["state"])))
            .collect()
    }

    /// The process of the epoch in this state.
    #[track_caller]
    pub(crate) fn pid_of(&self, state: &str) -> Pid {
        let epochs = self.epochs();
        let found = epochs.iter().find(|(_, _, s)| s == state);
        Pid::from_raw(found.unwrap_or_else(|| panic!("no {state} epoch in {epochs:?}")).1)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits for the end of the supervisor.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// Starts the supervisor once more, in the same directory.
    pub(crate) fn relaunch(&mut self) {
        self.child = spawn(self.dir.path(), &self.program, &self.flags, &self.epoch, |_| ());
    }

    /// Every line of the configuration it was started with.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Whatever this test started carries its directory in its command line; stopped or not, it goes now.
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let needle = self.dir.path().as_os_str().as_encoded_bytes().to_vec();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if command.windows(needle.len()).any(|window| window == needle) && pid != std::process::id() as i32 {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

/// A supervisor that has not been started yet.
pub(crate) struct Prepared {
    pub(crate) dir: TempDir,
    lines: Vec<String>,
    flags: Vec<String>,
    pub(crate) epoch: PathBuf,
    /// The supervisor's binary.
    pub(crate) program: PathBuf,
}

impl Prepared {
    /// Another configuration, for instance another bench's.
    pub(crate) fn set_lines(&mut self, lines: Vec<String>) {
        self.lines = lines;
    }

    pub(crate) fn launched(self) -> Bench {
        self.launched_with(|_| ())
    }

    pub(crate) fn launched_with(self, prepare: impl FnOnce(&mut Command)) -> Bench {
        let Self { dir, lines, flags, epoch, program } = self;
        fs::write(dir.path().join("c.conf"), lines.join("\n")).unwrap();
        let child = spawn(dir.path(), &program, &flags, &epoch, prepare);
        Bench { dir, child, lines, flags, epoch, program }
    }
}

fn spawn(dir: &Path, program: &Path, flags: &[String], epoch: &Path, prepare: impl FnOnce(&mut Command)) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
    // Only the process itself knows the number that LISTEN_PID must hold.
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "export LISTEN_PID=$$; exec \"$@\"", "sh"]).arg(program);
    prepare(&mut command);
    command.args(flags).arg("--run-dir").arg(dir.join("run")).arg("--").arg(epoch).arg("-c").arg(dir.join("c.conf"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the process ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Replaces a file at once, as an editor should.
pub(crate) fn replace(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}

/// Asks the epoch behind a socket, once.
pub(crate) fn ask(path: &Path) -> std::io::Result<(u64, String)> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    answer(stream)
}

/// Sends a question over a connection and reads the answer.
pub(crate) fn answer(mut stream: UnixStream) -> std::io::Result<(u64, String)> {
    stream.write_all(b"?\n")?;
    let mut text = String::new();
    while !text.ends_with('\n') {
        let mut buffer = [0; 64];
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => text.push_str(std::str::from_utf8(&buffer[..n]).unwrap()),
        }
    }
    let (epoch, marker) = text.trim().split_once(' ').unwrap();
    Ok((epoch.parse().unwrap(), marker.to_owned()))
}

#[derive(Debug)]
pub(crate) struct Operated {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A client that asks again and again over new connections, and never forgives.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Vec<String>, Duration)>,
}

impl Load {
    pub(crate) fn start(bench: &Bench) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, path) = (Arc::clone(&stop), bench.path("s"));
        let thread = std::thread::spawn(move || {
            let (mut count, mut errors, mut worst) = (0, Vec::new(), Duration::ZERO);
            while !flag.load(Ordering::Relaxed) {
                let begin = Instant::now();
                match ask(&path) {
                    Ok(_) => count += 1,
                    Err(error) => errors.push(error.to_string()),
                }
                worst = worst.max(begin.elapsed());
                pause();
            }
            (count, errors, worst)
        });
        Self { stop, thread }
    }

    /// How many were answered; fails if any was not. And the longest wait.
    #[track_caller]
    pub(crate) fn stop(self) -> (u32, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (count, errors, worst) = self.thread.join().unwrap();
        assert!(errors.is_empty(), "{} of {count} failed: {errors:?}", errors.len());
        (count, worst)
    }
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
