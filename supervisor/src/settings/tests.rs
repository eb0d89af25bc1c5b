use std::io::Write;

use super::*;

fn file(text: &str) -> Result<Options, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Options::from_file(file.path())
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let options = file(
        "command: [heirloom, -c, /etc/a.yaml]\nrun_dir: /run/x\ndrain_time_s: 1.5\nmax_draining: 2\ndrain_strategy: immediate\n",
    );
    let flags = Options { drain_time_s: Some(7.0), ..Options::default() };
    let settings = flags.or(options.unwrap()).settle().unwrap();
    assert_eq!(settings.command, ["heirloom", "-c", "/etc/a.yaml"]);
    assert_eq!(settings.run_dir, PathBuf::from("/run/x"));
    assert_eq!(settings.limits.drain_time, Duration::from_secs(7));
    assert_eq!(settings.limits.parent_shutdown, Duration::from_secs(900));
    assert_eq!(settings.limits.max_draining, 2);
    assert_eq!(settings.limits.drain_strategy, DrainStrategy::Immediate);
}

#[test]
fn every_fault_is_told() {
    for (text, fault) in [
        ("drain_tme_s: 3", "drain_tme_s"),
        ("drain_time_s: soon", "line 1"),
        ("drain_strategy: slow", "slow"),
        ("command: {a: 1}", "command"),
        ("[", "expected"),
    ] {
        let error = file(text).unwrap_err();
        assert!(error.contains(fault), "{text}: {error}");
    }
    assert!(Options::from_file(Path::new("/no/such/file")).unwrap_err().contains("/no/such/file"));
    let options = file("drain_time_s: -1\nmax_draining: 0\nprepare_time_s: .nan\nuser: nobody-of-that-name\n").unwrap();
    let error = options.settle().unwrap_err();
    for fault in ["drain_time_s", "max_draining", "prepare_time_s", "nobody-of-that-name", "command"] {
        assert!(error.contains(fault), "{error}");
    }
    assert_eq!(file("# nothing yet\n\n").unwrap(), Options::default());
    let line = file("command: heirloom  -c x.yaml").unwrap();
    assert_eq!(line.command, ["heirloom", "-c", "x.yaml"]);
}

#[test]
fn the_run_directory_has_an_order() {
    let variables = |set: &'static [(&str, &str)]| {
        move |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    };
    let both = variables(&[("RUNTIME_DIRECTORY", "/run/a:/run/b"), ("XDG_RUNTIME_DIR", "/run/user/5")]);
    let expected = ["/run/a", "/run/user/5/heirloom", "/tmp/heirloom-5"].map(PathBuf::from);
    assert_eq!(default_run_dirs(both, 5), expected);
    assert_eq!(default_run_dirs(variables(&[]), 0), [PathBuf::from("/run/heirloom")]);
    assert_eq!(default_run_dirs(variables(&[]), 7), [PathBuf::from("/tmp/heirloom-7")]);
}
