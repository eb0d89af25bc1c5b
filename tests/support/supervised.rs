//! A supervised proxy as a test sees it: two real binaries, a directory of their own, sockets handed over as systemd would.
//!
//! The listening sockets are bound here, on ports of the kernel's choice, and passed by `LISTEN_FDS`; the test keeps no copy, so that it
//! cannot be the one that keeps them alive. Dropping a [`Supervised`] ends every process that it started, and no other, also when some
//! are stopped, orphaned or misbehave.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::bins;
use super::bootstrap::Config;
use super::clients::get;
use super::operated::{EpochRow, Operated, Operating, SERVING, Status};
use super::process::{self, Descendants};

/// How long anything may take that has no better limit of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What to start.
pub(crate) struct Setup {
    /// The proxy's configuration, without the addresses of its sockets.
    pub(crate) config: Config,
    /// Flags of the supervisor.
    pub(crate) flags: Vec<String>,
    /// `--concurrency` of the epochs.
    pub(crate) workers: u32,
    /// The epochs' command is a script whose body [`Supervised::set_script`] can change between two epochs.
    pub(crate) scripted: bool,
    /// The supervisor runs from a copy in the test's directory, which the test may replace.
    pub(crate) own_supervisor: bool,
    /// Sockets of further listeners, handed over beside the front's and the admin endpoint's.
    pub(crate) sockets: Vec<OwnedFd>,
    /// Where everything that is logged goes instead of a file of the instance's directory.
    pub(crate) log: Option<PathBuf>,
    /// The directory that the instance's own one is made in.
    pub(crate) within: Option<PathBuf>,
}

impl Setup {
    /// A front proxy with two workers and short times.
    pub(crate) fn new(config: Config) -> Self {
        let flags = [
            "--drain-strategy=immediate",
            "--drain-time-s=2",
            "--parent-shutdown-time-s=5",
            "--probation-time-s=0.2",
            "--grace-time-s=0.3",
            "--terminate-time-s=1",
            "--max-draining=10",
        ];
        let flags = flags.map(String::from).to_vec();
        Self {
            config,
            flags,
            workers: 2,
            scripted: false,
            own_supervisor: false,
            sockets: Vec::new(),
            log: None,
            within: None,
        }
    }

    /// Adds or overrides a flag of the supervisor.
    pub(crate) fn flag(mut self, name: &str, value: impl ToString) -> Self {
        let prefix = format!("{name}=");
        self.flags.retain(|flag| !flag.starts_with(&prefix));
        self.flags.push(format!("{prefix}{}", value.to_string()));
        self
    }

    /// Sets the number of workers.
    pub(crate) fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Hands over one more socket.
    pub(crate) fn socket(mut self, socket: OwnedFd) -> Self {
        self.sockets.push(socket);
        self
    }

    /// Puts a script between the supervisor and the epochs.
    pub(crate) fn scripted(mut self) -> Self {
        self.scripted = true;
        self
    }

    /// Gives the test a supervisor's binary of its own.
    pub(crate) fn own_supervisor(mut self) -> Self {
        self.own_supervisor = true;
        self
    }

    /// Bounds every step of a takeover shortly, for tests that let it run into its limits.
    pub(crate) fn short_limits(self) -> Self {
        self.flag("--prepare-time-s", 2)
            .flag("--ready-time-s", 1)
            .flag("--commit-time-s", 1)
            .flag("--terminate-time-s", 0.5)
            .flag("--unresponsive-time-s", 3)
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(self) -> Supervised {
        Supervised::start(self)
    }
}

/// A listening socket on a port of the kernel's choice, for `LISTEN_FDS`.
pub(crate) fn listening() -> (OwnedFd, SocketAddr) {
    let bound = || -> std::io::Result<(OwnedFd, SocketAddr)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // As systemd does: a later socket can then be bound while old connections of this one linger.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(4096)?;
        let address = socket.local_addr()?.as_socket().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        Ok((socket.into(), address))
    };
    bound().expect("a loopback port is free")
}

/// A running supervisor and its epochs.
pub(crate) struct Supervised {
    /// Where the proxy's listener is.
    pub(crate) front: SocketAddr,
    /// Where the admin endpoint is.
    pub(crate) admin: SocketAddr,
    config: Config,
    workers: u32,
    /// What the supervisor was started with, its program first.
    command: Vec<OsString>,
    child: Child,
    dir: TempDir,
    descendants: Descendants,
}

impl Supervised {
    fn start(mut setup: Setup) -> Self {
        let (front_socket, front) = listening();
        let (admin_socket, admin) = listening();
        let mut sockets = vec![front_socket, admin_socket];
        sockets.append(&mut setup.sockets);
        Self::start_with(setup, sockets, front, admin)
    }

    fn start_with(setup: Setup, sockets: Vec<OwnedFd>, front: SocketAddr, admin: SocketAddr) -> Self {
        let within = setup.within.clone().unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::Builder::new().prefix("heirloom-restart-").tempdir_in(within);
        let dir = dir.expect("a directory can be made");
        if let Some(log) = &setup.log {
            std::os::unix::fs::symlink(log, dir.path().join("log")).expect("a link can be made");
        }
        let descendants = Descendants::of(dir.path());
        let words = words(dir.path(), &setup);
        let mut command = Command::new("/bin/sh");
        // Only the process itself knows the number that LISTEN_PID must hold.
        command.args(["-c", "export LISTEN_PID=$$; exec \"$@\"", "sh"]).args(&words);
        at_home(&mut command, dir.path());
        command.env("LISTEN_FDS", sockets.len().to_string());
        pass(&mut command, &sockets);
        let Setup { config, workers, .. } = setup;
        write_config(dir.path(), &config, front, admin);
        // The script itself never changes, so that it does not matter when the supervisor reads it.
        replace(&dir.path().join("epoch"), &format!("#!/bin/sh\n. {}\n", dir.path().join("plan").display()), 0o755);
        write_script(dir.path(), &real_epoch(dir.path(), workers));
        let child = command.spawn().expect("the supervisor can be started");
        drop(sockets);
        let supervised = Self { front, admin, config, workers, command: words, child, dir, descendants };
        eventually(PATIENCE, "the first epoch serves", || get(front, "/marker").is_ok());
        supervised.serving();
        supervised
    }

    /// Every process that lives of those that belong to this instance.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        self.descendants.living()
    }

    /// The directory of this instance.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The supervisor's run directory.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// What the supervisor and the epochs have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The supervisor's process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The file that the supervisor was started from.
    pub(crate) fn program(&self) -> &Path {
        Path::new(&self.command[0])
    }

    /// The supervisor dies, and nobody else.
    pub(crate) fn kill_supervisor(&mut self) {
        process::signal(self.pid(), Signal::SIGKILL);
        self.child.wait().expect("a child can be waited for");
    }

    /// Starts the next supervisor on the same run directory; nobody passes it any socket.
    pub(crate) fn next_supervisor(&mut self) {
        let mut command = self.one_more();
        at_home(&mut command, self.dir.path());
        pass(&mut command, &[]);
        self.child = command.spawn().expect("the supervisor can be started");
        eventually(PATIENCE, "the next supervisor listens", || self.operator(&["status"]).status.success());
    }

    /// The command that started the supervisor, to be run once more.
    pub(crate) fn one_more(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).env(process::MARK, self.dir.path());
        command
    }

    /// Whether the supervisor lives.
    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Changes the proxy's configuration file; the next epoch reads it.
    pub(crate) fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        write_config(self.dir.path(), &self.config, self.front, self.admin);
    }

    /// Puts any text into the configuration file.
    pub(crate) fn configure_raw(&self, text: &str) {
        replace(&self.dir.path().join("config.yaml"), text, 0o644);
    }

    /// Replaces what the script that starts epochs does; the next epoch does it.
    pub(crate) fn set_script(&self, script: &str) {
        write_script(self.dir.path(), script);
    }

    /// The script's line that runs the real proxy.
    pub(crate) fn real_epoch(&self) -> String {
        self.real_epoch_with(self.workers)
    }

    /// The same with another number of workers.
    pub(crate) fn real_epoch_with(&self, workers: u32) -> String {
        real_epoch(self.dir.path(), workers)
    }

    /// Runs an operator's command to its end.
    pub(crate) fn operator(&self, arguments: &[&str]) -> Operated {
        self.operator_begin(arguments).wait()
    }

    /// Starts an operator's command.
    pub(crate) fn operator_begin(&self, arguments: &[&str]) -> Operating {
        Operating::begin(arguments, &self.run_dir())
    }

    /// A takeover that must succeed.
    pub(crate) fn reload(&self) -> Operated {
        let operated = self.operator(&["reload"]);
        assert!(operated.status.success(), "reload failed: {operated:?}\n{}", self.log());
        operated
    }

    /// The lineage.
    pub(crate) fn status(&self) -> Status {
        let operated = self.operator(&["status", "--json"]);
        assert!(operated.status.success(), "status failed: {operated:?}\n{}", self.log());
        serde_json::from_str(&operated.stdout).expect("status prints JSON of the documented shape")
    }

    /// The epoch that accepts, once no takeover is under way.
    pub(crate) fn serving(&self) -> EpochRow {
        eventually_some(PATIENCE, "one epoch serves", || match self.status().in_state(SERVING)[..] {
            [row] => Some(row.clone()),
            _ => None,
        })
    }

    /// Sends the serving epoch a signal.
    pub(crate) fn signal_serving(&self, signal: Signal) -> Pid {
        let pid = Pid::from_raw(self.serving().pid);
        process::signal(pid, signal);
        pid
    }

    /// What the configured marker route answers: which configuration serves.
    pub(crate) fn marker(&self) -> String {
        let answer = get(self.front, "/marker").expect("the marker is answered");
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    /// Hangs up the supervisor: an asynchronous reload.
    pub(crate) fn hang_up(&self) {
        process::signal(self.pid(), Signal::SIGHUP);
    }

    /// Waits until only the newest epoch is left, and returns it.
    pub(crate) fn settled(&self, time: Duration) -> EpochRow {
        eventually(time, "old epochs leave", || self.status().epochs.len() == 1);
        self.serving()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            eprintln!("--- the end of the log of {}\n{}\n---", self.dir.path().display(), tail.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.descendants.end();
    }
}

/// Waits until a condition holds.
pub(crate) fn eventually(time: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(within(time, condition), "not within {time:?}: {what}");
}

/// Waits until a condition holds, and says whether it came to that.
pub(crate) fn within(time: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + time;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    true
}

/// Waits until there is a value.
pub(crate) fn eventually_some<T>(time: Duration, what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(time, what, || {
        found = value();
        found.is_some()
    });
    found.expect("just found")
}

/// The supervisor's command: program, flags, and the epochs' command.
fn words(dir: &Path, setup: &Setup) -> Vec<OsString> {
    let mut program = bins::supervisor().to_owned();
    if setup.own_supervisor {
        program = dir.join("heirloom-supervisor");
        copy_program(bins::supervisor(), &program);
    }
    let mut words = vec![program.into_os_string()];
    words.extend(setup.flags.iter().map(OsString::from));
    words.extend(["--run-dir".into(), dir.join("run").into(), "--".into()]);
    if setup.scripted {
        words.push(dir.join("epoch").into());
    } else {
        words.extend([bins::heirloom().into(), "-c".into(), dir.join("config.yaml").into()]);
        words.extend(["--concurrency".into(), setup.workers.to_string().into()]);
    }
    words
}

/// Copies a program. Another process does it: a child that this one happens to start meanwhile would keep the copy open for writing, and thus
/// from being executed.
pub(crate) fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-p", "--"]).args([from, to]).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} cannot be copied", from.display());
}

/// Marks the process as the test's, and has its log and whatever it does with relative paths in the test's directory.
fn at_home(command: &mut Command, dir: &Path) {
    let log = fs::File::options().create(true).append(true).open(dir.join("log")).expect("a log can be made");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be duplicated")).stderr(log);
    command.current_dir(dir).env(process::MARK, dir);
}

fn real_epoch(dir: &Path, workers: u32) -> String {
    let config = dir.join("config.yaml");
    format!("exec {} -c {} --concurrency {workers}", bins::heirloom().display(), config.display())
}

fn write_config(dir: &Path, config: &Config, front: SocketAddr, admin: SocketAddr) {
    replace(&dir.join("config.yaml"), &config.text(front, admin), 0o644);
}

fn write_script(dir: &Path, script: &str) {
    replace(&dir.join("plan"), &format!("{script}\n"), 0o644);
}

/// Replaces a file whole: a reader sees the old text or the new one.
fn replace(path: &Path, text: &str, mode: u32) {
    let new = path.with_extension("new");
    let written = fs::write(&new, text)
        .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&new, path));
    written.expect("a file of this test's directory can be written");
}

/// Lets the child inherit sockets as descriptors 3, 4, …; and end with the thread that started it.
#[allow(unsafe_code, reason = "descriptors pass to a child between fork and exec")]
fn pass(command: &mut Command, sockets: &[OwnedFd]) {
    let sources: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let first_free = 3 + RawFd::try_from(sources.len()).expect("a few hundred at most");
    let mut moved: Vec<RawFd> = vec![-1; sources.len()];
    let place = move || {
        // First out of the way of the places to fill, then into them; a duplicate at its place is not close-on-exec.
        for (source, moved) in sources.iter().zip(moved.iter_mut()) {
            // SAFETY: fcntl on a descriptor that the parent holds open until the child has been started.
            *moved = unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, first_free) };
            if *moved < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        for (place, moved) in (3..).zip(moved.iter()) {
            // SAFETY: dup2 onto a descriptor of this child, which is about to exec and uses none of them.
            if unsafe { libc::dup2(*moved, place) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls; all memory it touches was allocated before.
    unsafe { command.pre_exec(place) };
}
