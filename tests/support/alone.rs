//! An epoch that runs alone and binds for itself: what the suite compares the supervised proxy with.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tempfile::TempDir;

use super::bins;
use super::bootstrap::Config;
use super::clients::get;
use super::process;
use super::supervised::{PATIENCE, eventually};

/// A loopback address that no other test and no other run of the tests uses, so that its ports are free for whoever must bind them.
pub(crate) fn own_address(port: u16) -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from((Ipv4Addr::new(127, 1 + high % 250, low, number), port))
}

/// `heirloom -c FILE` without a supervisor.
pub(crate) struct Alone {
    /// Where the proxy's listener is.
    pub(crate) front: SocketAddr,
    /// Where the admin endpoint is.
    pub(crate) admin: SocketAddr,
    dir: TempDir,
    child: Child,
}

impl Alone {
    /// Starts one and waits until it answers.
    pub(crate) fn start(config: &Config) -> Self {
        let (front, admin) = (own_address(10_000), own_address(10_001));
        let dir = tempfile::Builder::new().prefix("heirloom-alone-").tempdir().expect("a directory can be made");
        fs::write(dir.path().join("config.yaml"), config.text(front, admin)).expect("a file can be written");
        let child = Self::launch(&dir);
        let alone = Self { front, admin, dir, child };
        alone.wait_until_serving();
        alone
    }

    fn launch(dir: &TempDir) -> Child {
        let log =
            fs::File::options().create(true).append(true).open(dir.path().join("log")).expect("a log can be made");
        let mut command = Command::new(bins::heirloom());
        command.arg("-c").arg(dir.path().join("config.yaml")).args(["--concurrency", "2"]);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be duplicated")).stderr(log);
        command.spawn().expect("the proxy can be started")
    }

    fn wait_until_serving(&self) {
        eventually(PATIENCE, "it serves", || get(self.front, "/marker").is_ok());
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Ends it with a signal and starts it again: the restart of a proxy that nobody supervises.
    pub(crate) fn restart(&mut self, with: Signal) {
        self.relaunch(with);
        self.wait_until_serving();
    }

    /// The same, whether it comes up or not.
    pub(crate) fn relaunch(&mut self, with: Signal) {
        process::signal(self.pid(), with);
        self.child.wait().expect("a child can be waited for");
        self.child = Self::launch(&self.dir);
    }

    /// Puts any text into the configuration file.
    pub(crate) fn configure_raw(&self, text: &str) {
        fs::write(self.dir.path().join("config.yaml"), text).expect("a file can be written");
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log\n{}", fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
