//! The supervisor replaces itself: same process, same children, same descriptors, another binary.
//!
//! On SIGUSR2, as soon as nothing is half done, everything is written down into a memory file, descriptors by their numbers; the new binary is first asked
//! whether it can read that ([`check`]); then this process executes it. Whatever goes wrong before that leaves everything as it was.

use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::figures::Figures;
use super::peer::Peer;
use super::recipes::Recipes;
use super::{Supervisor, own_program, signals};
use crate::broker::{Broker, Entry};
use crate::control::Control;
use crate::lifecycle::{Event, Lifecycle};
use crate::moment::Moment;
use crate::process::{self, Process, Recipe, Written};
use crate::settings::Settings;
use crate::shm::Segment;
use crate::systemd;
use crate::tickets::Ring;
use crate::wire::{Channel, inherit};

/// Environment variable: number of the descriptor that holds the state.
const ENV_STATE: &str = "HEIRLOOM_SUPERVISOR_STATE";
/// Environment variable: only say whether the state can be read.
const ENV_CHECK: &str = "HEIRLOOM_SUPERVISOR_CHECK";
/// Of the shape of [`State`]. A supervisor reads its own and no other: the one that runs asks before it lets go.
const FORMAT: u32 = 1;
/// How long a replacement waits for a quiet moment.
const WAIT: Duration = Duration::from_secs(120);
/// How long the new binary may take to say that it can read the state.
const CHECK: Duration = Duration::from_secs(10);
/// Longest state, in bytes.
const LONGEST: u64 = 64 << 20;

/// Everything, by numbers.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    format: u32,
    lifecycle: serde_json::Value,
    listener: RawFd,
    lock: RawFd,
    control_path: PathBuf,
    segment: RawFd,
    sockets: Vec<Entry>,
    spare: Vec<(String, RawFd)>,
    peers: BTreeMap<u64, Known>,
    current: Option<Written>,
    previous: Option<Written>,
    /// What was the previous one, while the last takeover can be taken back.
    #[serde(default)]
    before: Option<Written>,
    /// The keys of session tickets: the memory file that this is written to is nobody else's.
    #[serde(default)]
    tickets: Option<Ring>,
}

/// A [`Peer`] by numbers.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    pid: u32,
    is_child: bool,
    channel: Option<RawFd>,
    protocol: Option<u32>,
    offences: u32,
    #[serde(default)]
    moves: bool,
    #[serde(default)]
    tickets: bool,
}

/// The state that an earlier image of this process has left, if it has.
pub(crate) fn inherited() -> Option<RawFd> {
    env::var(ENV_STATE).ok()?.parse().ok()
}

/// Whether this process only says whether it can read the state.
pub(crate) fn is_check() -> bool {
    env::var_os(ENV_CHECK).is_some()
}

/// Reads the state and takes hold of nothing.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn check(number: RawFd) -> Result<(), String> {
    let state = read(number)?;
    serde_json::from_value::<Lifecycle>(state.lifecycle).map(drop).map_err(|error| error.to_string())
}

fn read(number: RawFd) -> Result<State, String> {
    let file = File::from(inherit(number).map_err(|error| error.to_string())?);
    let mut text = Vec::new();
    // The one who asks and the one who is asked share the position of the file.
    (&file).rewind().map_err(|error| error.to_string())?;
    file.take(LONGEST).read_to_end(&mut text).map_err(|error| error.to_string())?;
    #[derive(Deserialize)]
    struct Only {
        format: u32,
    }
    let Only { format } = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if format != FORMAT {
        return Err(format!("the state has format {format}, this supervisor reads {FORMAT}"));
    }
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

impl Supervisor {
    /// Goes on where an earlier image of this process left off.
    ///
    /// # Errors
    /// What is missing; there is then no way back, which is why the earlier image asked first.
    pub(crate) fn resume(settings: Settings, number: RawFd) -> Result<Self, String> {
        let state = read(number)?;
        let take = |number: RawFd| inherit(number).map_err(|error| format!("descriptor {number}: {error}"));
        let mut lifecycle: Lifecycle = serde_json::from_value(state.lifecycle).map_err(|error| error.to_string())?;
        lifecycle.set_limits(settings.limits.clone());
        let control = Control::from_parts(take(state.listener)?, take(state.lock)?, state.control_path, settings.user)?;
        let segment = Segment::attach(take(state.segment)?).map_err(|error| error.to_string())?;
        let (mut peers, mut events) = (BTreeMap::new(), VecDeque::new());
        for (epoch, known) in state.peers {
            let channel = known.channel.map(take).transpose()?;
            let process = match Process::hold(known.pid, known.is_child) {
                Ok(process) => process,
                // One that is nobody's child here can be gone without a trace.
                Err(error) => {
                    events.push_back(Event::Exited { epoch, how: format!("it left meanwhile: {error}") });
                    continue;
                }
            };
            let channel = channel.map(Channel::from_socket).transpose().map_err(|error| error.to_string())?;
            let mut peer = Peer::resumed(process, channel, known.protocol, known.offences);
            peer.moves = known.moves;
            peer.tickets = known.tickets;
            peers.insert(epoch, peer);
        }
        let mut recipes = Recipes::new(settings.run_dir.clone());
        recipes.current = state.current.map(Recipe::from_numbers);
        recipes.previous = state.previous.map(Recipe::from_numbers);
        recipes.before = state.before.map(Recipe::from_numbers);
        info!("the supervisor has replaced itself; {} epochs are with it", peers.len());
        Ok(Self {
            lifecycle,
            broker: Broker::from_numbers(state.sockets, state.spare),
            control,
            peers,
            recipes,
            figures: Some(Figures::new(&segment)),
            segment,
            signals: signals().map_err(|error| format!("signals: {error}"))?,
            events,
            orphans: Vec::new(),
            expected: BTreeMap::new(),
            gather_until: None,
            expected_until: None,
            resumed: true,
            watchdog: systemd::watchdog_interval(),
            fed: Moment::now(),
            exit: None,
            replace_until: None,
            tickets: state.tickets,
            program: own_program(),
            settings,
        })
    }

    /// SIGUSR2.
    pub(super) fn want_replacement(&mut self) {
        info!("SIGUSR2: the supervisor replaces itself");
        self.replace_until = Some(Moment::now() + WAIT);
    }

    /// Replaces itself, if that is wanted and nothing is half done.
    pub(super) fn try_replacement(&mut self) {
        let Some(until) = self.replace_until else { return };
        let quiet = self.lifecycle.is_quiet() && self.orphans.is_empty() && self.peers.values().all(Peer::is_quiet);
        if !quiet {
            if until <= Moment::now() {
                warn!("the supervisor does not replace itself: there was no quiet moment for {} s", WAIT.as_secs());
                self.replace_until = None;
            }
            return;
        }
        self.replace_until = None;
        if let Err(error) = self.replace() {
            warn!("the supervisor does not replace itself: {error}");
        }
    }

    fn replace(&self) -> Result<(), String> {
        let segment = self.segment.fd().ok_or("the statistics are private")?;
        let (sockets, spare) = self.broker.numbers();
        let (listener, lock) = self.control.parts();
        let known = |peer: &Peer| Known {
            pid: peer.process.pid(),
            is_child: peer.process.is_child(),
            channel: peer.channel.as_ref().map(AsRawFd::as_raw_fd),
            protocol: peer.protocol,
            offences: peer.offences,
            moves: peer.moves,
            tickets: peer.tickets,
        };
        let state = State {
            format: FORMAT,
            lifecycle: serde_json::to_value(&self.lifecycle).map_err(|error| error.to_string())?,
            listener: listener.as_raw_fd(),
            lock: lock.as_raw_fd(),
            control_path: self.control.path().into(),
            segment: segment.as_raw_fd(),
            sockets,
            spare,
            peers: self.peers.iter().map(|(epoch, peer)| (*epoch, known(peer))).collect(),
            current: self.recipes.current.as_ref().map(Recipe::numbers),
            previous: self.recipes.previous.as_ref().map(Recipe::numbers),
            tickets: self.tickets.clone(),
            before: self.recipes.before.as_ref().map(Recipe::numbers),
        };
        let file = write(&state).map_err(|error| error.to_string())?;
        let number = file.as_raw_fd();
        let command = || {
            let mut command = Command::new(&self.program);
            command.args(env::args_os().skip(1)).env(ENV_STATE, number.to_string());
            for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
                // They told of descriptors that have long had an owner.
                command.env_remove(name);
            }
            command
        };
        let mut question = command();
        question.env(ENV_CHECK, "1").stdin(Stdio::null());
        match process::run(question, &[number], CHECK) {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(format!("{} cannot take over: {status}", self.program.display())),
            Err(error) => return Err(format!("{}: {error}", self.program.display())),
        }
        let mut numbers = state.numbers();
        numbers.push(number);
        Err(format!("{}: {}", self.program.display(), process::exec(command(), numbers)))
    }
}

impl State {
    /// Every descriptor that the next image must find open.
    fn numbers(&self) -> Vec<RawFd> {
        let sockets = self.sockets.iter().flat_map(Entry::numbers);
        let spare = self.spare.iter().map(|(_, number)| *number);
        let channels = self.peers.values().filter_map(|known| known.channel);
        let binaries =
            [&self.current, &self.previous, &self.before].into_iter().flatten().filter_map(|written| written.binary);
        let own = [self.listener, self.lock, self.segment];
        own.into_iter().chain(sockets).chain(spare).chain(channels).chain(binaries).collect()
    }
}

fn write(state: &State) -> io::Result<File> {
    let file = memfd_create(c"heirloom-supervisor", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(&serde_json::to_vec(state)?)?;
    Ok(file)
}
