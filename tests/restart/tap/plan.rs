//! What is to happen at which message, as a line in a file.

use std::fmt;
use std::fs;
use std::path::Path;

use nix::unistd::Pid;

/// Which way a message goes on the channel that is tapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the epoch to the supervisor.
    Up,
    /// From the supervisor to the epoch.
    Down,
    /// From the epoch to its heir.
    Out,
    /// From the heir back to the epoch.
    In,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Deed {
    /// It waits for [`super::Tap::go`].
    Hold,
    /// It does not arrive.
    Drop,
    /// Bits in its middle are turned over.
    Flip,
    /// Its second half is missing.
    Cut,
    /// Its descriptors are missing.
    Bare,
    /// It arrives twice.
    Twice,
    /// A `Hello` arrives that admits to no ability beyond the protocol's: nothing moves from this epoch, or to it.
    Plain,
    /// The victim is killed; then the message arrives.
    Kill,
    /// The victim is stopped; then the message arrives.
    Stop,
    /// The victim can open nothing more; then the message arrives.
    Limit,
}

/// Whom it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// A process.
    Process(Pid),
    /// The process of an epoch that may not have been started yet.
    Epoch(u64),
}

/// Every epoch.
pub(crate) const ANY: u64 = u64::MAX;

/// A message, and what happens when it passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Whose channel; [`ANY`] for everybody's.
    pub(crate) epoch: u64,
    pub(crate) way: Way,
    /// By its name in the protocol.
    pub(crate) message: String,
    /// From 1, counted from the order on; 0 for each.
    pub(crate) nth: u32,
    pub(crate) deed: Deed,
    pub(crate) victim: Victim,
}

const WAYS: [Way; 4] = [Way::Up, Way::Down, Way::Out, Way::In];
const DEEDS: [Deed; 10] = [
    Deed::Plain,
    Deed::Hold,
    Deed::Drop,
    Deed::Flip,
    Deed::Cut,
    Deed::Bare,
    Deed::Twice,
    Deed::Kill,
    Deed::Stop,
    Deed::Limit,
];

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, way, message, nth, deed, victim } = self;
        write!(f, "{epoch} {way:?} {message} {nth} {deed:?} ")?;
        match victim {
            Victim::Process(pid) => write!(f, "{pid}"),
            Victim::Epoch(epoch) => write!(f, "e{epoch}"),
        }
    }
}

impl Order {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut word = || words.next();
        let epoch = word()?.parse().ok()?;
        let way = word()?;
        let way = WAYS.into_iter().find(|known| format!("{known:?}") == way)?;
        let message = word()?.to_owned();
        let nth = word()?.parse().ok()?;
        let deed = word()?;
        let deed = DEEDS.into_iter().find(|known| format!("{known:?}") == deed)?;
        let victim = word()?;
        let victim = match victim.strip_prefix('e') {
            Some(epoch) => Victim::Epoch(epoch.parse().ok()?),
            None => Victim::Process(Pid::from_raw(victim.parse().ok()?)),
        };
        Some(Self { epoch, way, message, nth, deed, victim })
    }
}

/// The order that stands, with its number.
pub(super) fn current(dir: &Path) -> Option<(u64, Order)> {
    let text = fs::read_to_string(dir.join("order")).ok()?;
    let (number, order) = text.split_once(' ')?;
    Some((number.parse().ok()?, Order::parse(order)?))
}

/// The process of an epoch.
pub(super) fn process(dir: &Path, epoch: u64) -> Option<Pid> {
    fs::read_to_string(dir.join(format!("{epoch}.pid"))).ok()?.parse().ok().map(Pid::from_raw)
}

/// Every epoch's process that is known.
pub(super) fn processes(dir: &Path) -> Vec<Pid> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".pid")?.parse().ok());
    numbers.filter_map(|epoch| process(dir, epoch)).collect()
}

/// Writes a file whole: who reads it sees all or nothing.
pub(super) fn write(dir: &Path, text: &str, name: &str) {
    let new = dir.join(format!(".{name}.{}", std::process::id()));
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, dir.join(name)));
    written.expect("a file of this test's directory can be written");
}

#[test]
fn an_order_survives_its_way_through_the_file() {
    for (deed, victim) in [(Deed::Kill, Victim::Epoch(7)), (Deed::Bare, Victim::Process(Pid::from_raw(12)))] {
        let order = Order { epoch: 3, way: Way::Out, message: "Moved".into(), nth: 2, deed, victim };
        assert_eq!(Order::parse(&order.to_string()), Some(order));
    }
}
