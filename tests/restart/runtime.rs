//! Runtime layers of a real process: what the admin endpoint says and takes, what a swapped link does, what a takeover forgets.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::support::bootstrap::Config;
use crate::support::clients::get;
use crate::support::supervised::{PATIENCE, Setup, eventually};
use crate::support::upstream::Upstream;

fn config(root: &Path) -> Config {
    let upstream = Upstream::start();
    let layers = format!(
        "layered_runtime:\n  layers:\n  - {{ name: static, static_layer: {{ a.b: 1, only: true }} }}\n  - {{ name: disk, disk_layer: \
         {{ symlink_root: {}, subdirectory: sub }} }}\n  - {{ name: admin, admin_layer: {{}} }}\n",
        root.join("current").display()
    );
    // Behind the last cluster a new field of the whole begins.
    Config { clusters: layers, ..Config::to(upstream.address) }
}

fn put(root: &Path, version: &str, name: &str, text: &str) {
    fs::create_dir_all(root.join(version).join("sub/a")).unwrap();
    fs::write(root.join(version).join("sub/a").join(name), text).unwrap();
}

fn body(admin: SocketAddr, path: &str) -> String {
    String::from_utf8(get(admin, path).unwrap().body).unwrap()
}

/// A request as it is given, and all that comes back.
fn ask(admin: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.replacen("host: a", "host: a\r\nconnection: close", 1).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn layers_are_shown_overridden_reread_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "v1", "b", "2\n");
    symlink("v1", dir.path().join("current")).unwrap();
    let proxy = Setup::new(config(dir.path())).start();
    let admin = proxy.admin;
    let runtime = || -> Value { serde_json::from_str(&body(admin, "/runtime")).unwrap() };
    let value = |name: &str| runtime()["entries"][name].clone();
    assert_eq!(runtime()["layers"], serde_json::json!(["static", "disk", "admin"]));
    assert_eq!(value("a.b"), serde_json::json!({ "layer_values": ["1", "2", ""], "final_value": "2" }));
    let stat = |name: &str| {
        let all = body(admin, "/stats?filter=^runtime");
        let line = all.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in {all}"))
    };
    assert_eq!(stat("runtime.num_keys"), "2");
    assert_eq!(stat("runtime.num_layers"), "3");
    assert_eq!(stat("runtime.admin_overrides_active"), "0");
    let modify = |head: &str, body: &str| {
        let text = format!("POST /runtime_modify{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        ask(admin, &text)
    };
    let answer = modify("?a.b=3&c=x HTTP/1.1\r\nhost: a", "");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nOK\n"), "{answer}");
    assert_eq!(value("a.b")["final_value"], "3");
    assert_eq!(stat("runtime.admin_overrides_active"), "1");
    let form = "content-type: application/x-www-form-urlencoded";
    assert!(modify(&format!(" HTTP/1.1\r\nhost: a\r\n{form}"), "a.b=&d=%20y").starts_with("HTTP/1.1 200 "));
    assert_eq!((value("a.b")["final_value"].clone(), value("d")["final_value"].clone()), ("2".into(), " y".into()));
    let usage = modify(" HTTP/1.1\r\nhost: a", "");
    assert!(usage.starts_with("HTTP/1.1 400 ") && usage.contains("usage: /runtime_modify?key1=value1"), "{usage}");
    assert_eq!(get(admin, "/runtime_modify?a=b").unwrap().second_word(), "405");
    let many: String = (0..1100).map(|number| format!("&k{number}=1")).collect();
    assert!(modify(&format!(" HTTP/1.1\r\nhost: a\r\n{form}"), &many[1..]).starts_with("HTTP/1.1 503 "));

    // A file that changes is nobody's business until the link is swapped.
    put(dir.path(), "v1", "b", "9");
    put(dir.path(), "v2", "b", "5");
    put(dir.path(), "v2", "new", "here");
    symlink("v2", dir.path().join("next")).unwrap();
    assert_eq!(value("a.b")["final_value"], "2");
    fs::rename(dir.path().join("next"), dir.path().join("current")).unwrap();
    eventually(PATIENCE, "the new folder is read", || value("a.b")["final_value"] == "5");
    assert_eq!(value("a.new")["final_value"], "here");
    assert_eq!(value("c")["final_value"], "x", "overrides stay");

    // What cannot be read changes nothing, and is counted.
    put(dir.path(), "v3", "b", "7");
    fs::write(dir.path().join("v3/sub/a/bad"), [0xff]).unwrap();
    symlink("v3", dir.path().join("next")).unwrap();
    fs::rename(dir.path().join("next"), dir.path().join("current")).unwrap();
    eventually(PATIENCE, "the fault is counted", || stat("runtime.load_error") == "1");
    assert_eq!(value("a.b")["final_value"], "5");

    // A takeover reads everything anew; the operator's word was to the epoch before.
    fs::remove_file(dir.path().join("v3/sub/a/bad")).unwrap();
    proxy.reload();
    assert_eq!(value("a.b")["final_value"], "7");
    assert_eq!(value("c"), Value::Null);
    eventually(PATIENCE, "the gauge is the new epoch's", || stat("runtime.admin_overrides_active") == "0");
    assert!(proxy.log().contains("does not know the runtime overrides of the admin endpoint: c, d"), "{}", proxy.log());
}
