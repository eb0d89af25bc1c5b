//! Epochs whose supervisor died.

use nix::sys::signal::Signal;

use crate::support::{Bench, Load, eventually};

#[test]
fn epochs_serve_on_and_the_next_supervisor_adopts_them() {
    let mut bench = Bench::start_with(&["orphan"], &[]);
    let epoch = bench.pid_of("active");
    let load = Load::start(&bench);
    bench.signal(Signal::SIGKILL);
    bench.wait();
    assert_eq!(bench.ask().unwrap(), (0, "first".into()));
    bench.relaunch();
    eventually("it is adopted", || bench.log().contains("adopted as active"));
    assert_eq!(bench.pid_of("active"), epoch);
    bench.configure(&["marker second", "orphan"]);
    bench.reload();
    assert_eq!(bench.ask().unwrap(), (1, "second".into()));
    eventually("the adopted one has left", || bench.epochs().len() == 1);
    load.stop();
    // It is one of ours in every way: its crash is seen too.
    bench.signal(Signal::SIGKILL);
    bench.wait();
    bench.relaunch();
    eventually("it is adopted", || {
        bench.log().contains("epoch 1 (pid") && bench.operator(&["status"]).status.success()
    });
    nix::sys::signal::kill(bench.pid_of("active"), Signal::SIGKILL).unwrap();
    eventually("it is replaced", || bench.ask().is_ok_and(|(epoch, _)| epoch == 2));
}
