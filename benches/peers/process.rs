//! Processes: started so that they never outlive the controller, accounted as a family, stopped by pid.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::Result;
use crate::sys::{eventually, pause};

/// After SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(3);
/// The longest wait for memory to stand still.
const SETTLE: Duration = Duration::from_secs(5);
/// Between two looks at memory.
const SETTLE_STEP: Duration = Duration::from_millis(250);

/// A started process, and what it says.
pub(crate) struct Running {
    child: Child,
    lines: Option<Receiver<String>>,
    stdin: Option<ChildStdin>,
}

/// One process, told apart from a later one with the same pid by its start time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    pid: i32,
    started: u64,
}

/// Where a child's output goes.
pub(crate) enum Output<'a> {
    /// Line by line to the controller.
    Lines,
    /// Into this file, shown when the child fails.
    Log(&'a Path),
}

/// Starts `command` in the background, on `core` if one is given.
pub(crate) fn start(command: &[String], core: Option<u32>, output: &Output<'_>) -> Result<Running> {
    let mut shim = Command::new(std::env::current_exe()?);
    shim.arg("child");
    if let Some(core) = core {
        shim.args(["--core", &core.to_string()]);
    }
    shim.arg("--").args(command).stdin(Stdio::piped());
    match output {
        Output::Lines => shim.stdout(Stdio::piped()).stderr(Stdio::inherit()),
        Output::Log(path) => {
            let log = File::create(path)?;
            shim.stdout(log.try_clone()?).stderr(log)
        }
    };
    let mut child = shim.spawn()?;
    let stdin = child.stdin.take();
    let lines = child.stdout.take().map(|out| {
        // Bounded: a part says a line or two.
        let (sender, receiver) = sync_channel(64);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(std::result::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        receiver
    });
    Ok(Running { child, lines, stdin })
}

/// A part of this program as a command line for [`start`].
pub(crate) fn part(arguments: &[&str]) -> Result<Vec<String>> {
    let own = std::env::current_exe()?.to_string_lossy().into_owned();
    Ok(std::iter::once(own).chain(arguments.iter().map(ToString::to_string)).collect())
}

/// The hidden subcommand between fork and exec: asks for SIGTERM when the controller dies, then becomes the command.
/// Returns only if that fails.
pub(crate) fn become_child(core: Option<u32>, command: &[String]) -> Result<()> {
    set_pdeathsig(Signal::SIGTERM)?;
    let mut all = Vec::new();
    if let Some(core) = core {
        all.extend(["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
    }
    all.extend_from_slice(command);
    let (program, arguments) = all.split_first().ok_or("no command")?;
    Err(format!("{program}: {}", Command::new(program).args(arguments).exec()).into())
}

impl Running {
    /// The pids of the whole family, parents first.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.family().iter().map(|member| member.pid).collect()
    }

    /// The next line it says.
    pub(crate) fn line(&self, limit: Duration) -> Result<String> {
        let lines = self.lines.as_ref().ok_or("its output is not read")?;
        lines.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("no word within {limit:?}").into(),
            RecvTimeoutError::Disconnected => "it ended without a word".into(),
        })
    }

    /// Lets it go on: a part that waits for its standard input to end does so no longer.
    pub(crate) fn go_on(&mut self) {
        self.stdin = None;
    }

    /// Whether it has ended already.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Proportional set size of the family in bytes, once it stands still.
    pub(crate) fn settled_memory(&self) -> Result<f64> {
        let mut last = self.memory()?;
        let mut waited = Duration::ZERO;
        while waited < SETTLE {
            pause(SETTLE_STEP);
            waited += SETTLE_STEP;
            let now = self.memory()?;
            let still = (now - last).abs() <= last * 0.002;
            last = now;
            if still && waited > 2 * SETTLE_STEP {
                break;
            }
        }
        Ok(last)
    }

    /// Ends the family: asks the first, and after the grace kills by pid what is left.
    pub(crate) fn stop(mut self) {
        let family = self.family();
        self.go_on();
        if !self.has_ended() {
            // It may end between the two lines; then there is nothing to ask.
            let _gone = kill(Pid::from_raw(self.id()), Signal::SIGTERM);
        }
        let ended = eventually(GRACE, || {
            self.has_ended();
            family.iter().all(|member| !member.is_alive()).then_some(())
        });
        if ended.is_none() {
            for member in family.iter().filter(|member| member.is_alive()) {
                let _gone = kill(Pid::from_raw(member.pid), Signal::SIGKILL);
            }
            let _status = self.child.wait();
        }
    }

    fn id(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    fn memory(&self) -> Result<f64> {
        let mut total = 0.0;
        for pid in self.pids() {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let kilobytes = rollup
                .lines()
                .find_map(|line| line.strip_prefix("Pss:"))
                .and_then(|rest| rest.split_whitespace().next())
                .and_then(|number| number.parse::<f64>().ok())
                .ok_or("no Pss in smaps_rollup")?;
            total += kilobytes * 1_024.0;
        }
        Ok(total)
    }

    fn family(&self) -> Vec<Identity> {
        let mut children: HashMap<i32, Vec<Identity>> = HashMap::new();
        let mut family = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let Some((parent, member)) = Identity::of(pid) else { continue };
            if pid == self.id() {
                family.push(member);
            } else {
                children.entry(parent).or_default().push(member);
            }
        }
        let mut next = 0;
        while let Some(member) = family.get(next) {
            let more = children.remove(&member.pid).unwrap_or_default();
            family.extend(more);
            next += 1;
        }
        family
    }
}

impl Identity {
    /// The parent and the identity of a living process. Zombies are dead.
    fn of(pid: i32) -> Option<(i32, Self)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold spaces; the third field of proc(5) follows its last parenthesis.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        Some((fields.get(1)?.parse().ok()?, Self { pid, started: fields.get(19)?.parse().ok()? }))
    }

    fn is_alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|(_, now)| now == *self)
    }
}

/// User and system time of these processes so far, all threads, ended ones too, in nanoseconds.
pub(crate) fn cpu_time(pids: &[i32]) -> Result<u64> {
    let mut total = 0;
    for pid in pids {
        let clock = clock_getcpuclockid(Pid::from_raw(*pid))?;
        total += u64::try_from(Duration::from(clock.now()?).as_nanos())?;
    }
    Ok(total)
}
