use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::*;
use crate::config::model::{CircuitBreakers, Locality, Node};
use crate::stats::{Geometry, Scope, Segment, Store};

/// A server that does nothing but remember.
struct Fake {
    state: RefCell<State>,
    actions: RefCell<Vec<Action>>,
}

struct Handle(Rc<Fake>);

impl View for Handle {
    fn state(&self) -> State {
        *self.0.state.borrow()
    }

    fn info(&self) -> Info {
        let options = Options {
            base_id: "0".to_owned(),
            concurrency: 2,
            config_path: "front-proxy.yaml".to_owned(),
            config_yaml: String::new(),
            admin_address_path: String::new(),
            log_level: "info".to_owned(),
            log_format: String::new(),
            log_path: String::new(),
            service_cluster: String::new(),
            service_node: String::new(),
            service_zone: String::new(),
            drain_time: "600s".to_owned(),
            parent_shutdown_time: "900s".to_owned(),
            mode: "Serve",
            disable_hot_restart: false,
            restart_epoch: 3,
            drain_strategy: "Gradual",
        };
        let node = Node { id: "n".to_owned(), cluster: "c".to_owned(), ..Node::default() };
        Info::new("0/0.1.0", self.state(), (5, 77), options, &node)
    }

    fn listeners(&self) -> Vec<ListenerStatus> {
        let tcp = |port| Address::Tcp((Ipv4Addr::LOCALHOST, port).into());
        let unix = Address::Unix { path: "/run/x.sock".into(), mode: 0 };
        vec![
            ListenerStatus { name: "ingress".to_owned(), addresses: vec![tcp(80), tcp(81)] },
            ListenerStatus { name: "local".to_owned(), addresses: vec![unix] },
        ]
    }

    fn clusters(&self) -> Vec<ClusterStatus> {
        let host = HostStatus {
            address: Address::Tcp((Ipv4Addr::LOCALHOST, 29911).into()),
            hostname: String::new(),
            healthy: true,
            weight: 1,
            locality: Locality::default(),
            cx_active: 1,
            cx_connect_fail: 0,
            cx_total: 1,
            rq_active: 0,
            rq_error: 0,
            rq_success: 3,
            rq_timeout: 0,
            rq_total: 3,
        };
        let cluster = |name: &str| ClusterStatus {
            name: name.to_owned(),
            observability_name: name.to_owned(),
            added_via_api: false,
            limits: CircuitBreakers::default(),
            hosts: vec![host.clone()],
        };
        vec![cluster("up"), cluster("other")]
    }

    fn act(&self, action: Action) {
        self.0.actions.borrow_mut().push(action);
    }
}

/// A served endpoint.
struct Served {
    address: SocketAddr,
    root: Scope,
    reporter: Rc<RefCell<Reporter>>,
    fake: Rc<Fake>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::over(listener, Store::detached())
    }

    fn over(listener: TcpListener, store: Store) -> Self {
        let address = listener.local_addr().unwrap();
        let root = Scope::root(&store, store.lane_or_private());
        let fake = Rc::new(Fake { state: RefCell::new(State::Live), actions: RefCell::default() });
        let reporter = Rc::new(RefCell::new(Reporter::new(&root, Vec::new())));
        let admin = Admin::new(&root, Box::new(Handle(fake.clone())), reporter.clone(), Tags::default());
        let (stop, stopped) = oneshot::channel();
        let task = spawn_local(async move {
            let stop = async {
                let _ = stopped.await;
            };
            serve(listener, admin, stop, std::future::pending()).await;
        });
        Self { address, root, reporter, fake, stop: Some(stop), task }
    }

    async fn get(&self, target: &str) -> (u16, String) {
        ask(self.address, "GET", target).await
    }

    async fn finish(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap();
    }
}

/// One request on a connection of its own: status and body.
async fn ask(address: SocketAddr, method: &str, target: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {target} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let response = read_all(&mut stream).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut response = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut response)).await.unwrap().unwrap();
    String::from_utf8(response).unwrap()
}

fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn paths_and_methods() {
    local(async {
        let admin = Served::start().await;
        let table = [
            ("GET", "/ready", 200, "LIVE\n"),
            ("POST", "/ready?x=1", 200, "LIVE\n"),
            ("HEAD", "/ready", 200, ""),
            ("GET", "/quitquitquit", 405, "Method GET not allowed, POST required."),
            ("PUT", "/healthcheck/fail", 405, "Method PUT not allowed, POST required."),
            ("HEAD", "/quitquitquit", 405, ""),
            ("POST", "/healthcheck/fail", 200, "OK\n"),
            ("POST", "/healthcheck/ok", 200, "OK\n"),
            ("POST", "/drain_listeners", 200, "OK\n"),
            ("POST", "/drain_listeners?graceful&inboundonly", 200, "OK\n"),
            ("POST", "/drain_listeners?skip_exit", 200, "OK\n"),
            ("POST", "/reopen_logs", 200, "OK\n"),
            ("POST", "/quitquitquit", 200, "OK\n"),
            ("GET", "/hot_restart_version", 200, "heirloom.1\n"),
            ("GET", "/stats?format=yaml", 400, "usage: /stats?format=(json|prometheus|text)\n\n"),
            ("GET", "/stats?filter=%5B", 400, "Invalid re2 regex: unclosed character class: ["),
            ("GET", "/stats/prometheus?filter=%5B", 400, "Invalid re2 regex: unclosed character class: ["),
            ("GET", "/stats?type=x", 400, "invalid &type= param"),
            ("GET", "/stats?hidden=x", 400, "usage: /stats?hidden=(include|only|exclude)\n\n"),
            ("GET", "/clusters?filter=%5B", 400, "Invalid re2 regex"),
            ("GET", "/stats?filter=nothing_at_all", 200, ""),
            ("GET", "/stats?filter=nothing_at_all&format=json", 200, r#"{"stats":[]}"#),
            ("GET", "/config_dump?mask=x", 400, "the parameters of /config_dump are not supported yet\n"),
        ];
        for (method, target, status, body) in table {
            assert_eq!(ask(admin.address, method, target).await, (status, body.to_owned()), "{method} {target}");
        }
        for path in ["/nothing", "/readyx", "/ready/", "/stats/", "/config_dump", "*"] {
            let (status, body) = admin.get(path).await;
            assert_eq!(status, 404, "{path}");
            assert!(body.starts_with("invalid path. admin commands are:\n  /: Admin home page\n"), "{body}");
            assert!(body.contains("\n  /quitquitquit (POST): exit the server\n"), "{body}");
        }
        let (status, page) = admin.get("/").await;
        assert!(status == 200 && page.contains("<a href='stats/prometheus'>") && page.contains("method='post'"));
        assert_eq!(
            *admin.fake.actions.borrow(),
            [
                Action::FailHealthChecks,
                Action::PassHealthChecks,
                Action::DrainListeners { inbound_only: false, graceful: false, skip_exit: false },
                Action::DrainListeners { inbound_only: true, graceful: true, skip_exit: false },
                Action::DrainListeners { inbound_only: false, graceful: false, skip_exit: true },
                Action::ReopenLogs,
                Action::Quit,
            ]
        );
        *admin.fake.state.borrow_mut() = State::Draining;
        assert_eq!(admin.get("/ready").await, (503, "DRAINING\n".to_owned()));
        admin.finish().await;
    });
}

#[test]
fn headers_are_envoys() {
    local(async {
        let admin = Served::start().await;
        let mut stream = TcpStream::connect(admin.address).await.unwrap();
        stream.write_all(b"GET /stats?format=json HTTP/1.0\r\n\r\n").await.unwrap();
        let response = read_all(&mut stream).await;
        for header in [
            "\r\ncontent-type: application/json\r\n",
            "\r\ncache-control: no-cache, max-age=0\r\n",
            "\r\nx-content-type-options: nosniff\r\n",
            "\r\nserver: envoy\r\n",
            "\r\ndate: ",
        ] {
            assert!(response.contains(header), "{header:?} is not in {response}");
        }
        admin.finish().await;
    });
}

#[test]
fn stats_in_text_and_json() {
    local(async {
        let admin = Served::start().await;
        let scope = admin.root.scope("t");
        scope.counter("b_total").add(3);
        scope.gauge("a_active").inc();
        scope.gauge("a_active").dec();
        scope.gauge("c_unused");
        scope.histogram("none");
        let time = scope.histogram("a_time");
        for value in [100, 105, 107, 109] {
            time.record(value);
        }
        admin.reporter.borrow_mut().flush();
        time.record(13);
        let text = "t.a_active: 0\nt.b_total: 3\nt.c_unused: 0\n\
            t.a_time: P0(102,13.5) P25(102,102) P50(104,104) P75(106,106) P90(108,108) P95(108,108) P99(108,108) \
            P99.5(108,108) P99.9(108,108) P100(108,108)\nt.none: No recorded values\n";
        assert_eq!(admin.get("/stats?filter=%5Et%5C.").await, (200, text.to_owned()));
        let used = text.replace("t.c_unused: 0\n", "").replace("t.none: No recorded values\n", "");
        assert_eq!(admin.get("/stats?filter=%5Et%5C.&usedonly").await, (200, used));
        let kinds = admin.get("/stats?filter=%5Et%5C.&type=Gauges").await.1;
        assert_eq!(kinds, "t.a_active: 0\nt.c_unused: 0\n");
        assert_eq!(admin.get("/stats?filter=%5Et%5C.&type=TextReadouts").await.1, "");
        let disjoint = admin.get("/stats?filter=a_time&histogram_buckets=disjoint").await.1;
        assert!(disjoint.starts_with("t.a_time: B0.5(0,0) B1(0,0) B5(0,0) B10(0,0) B25(0,1) B50(0,0) B100(4,4) "));
        let cumulative = admin.get("/stats?filter=a_time&histogram_buckets=cumulative").await.1;
        assert!(cumulative.ends_with(" B600000(4,5) B1.8e+06(4,5) B3.6e+06(4,5)\n"), "{cumulative}");
        let json = admin.get("/stats?filter=%5Et%5C.&usedonly&format=json").await.1;
        assert!(json.starts_with(
            r#"{"stats":[{"name":"t.a_active","value":0},{"name":"t.b_total","value":3},{"histograms":{"supported_quantiles":[0,25,50,75,90,95,99,99.5,99.9,100],"computed_quantiles":[{"name":"t.a_time","values":[{"cumulative":13.5,"interval":102},"#
        ), "{json}");
        let json = admin.get("/stats?filter=t.none&format=json&histogram_buckets=cumulative").await.1;
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["stats"][0]["histograms"][0]["buckets"][0]["upper_bound"], 0.5);
        let all = admin.get("/stats?format=json").await.1;
        serde_json::from_str::<serde_json::Value>(&all).unwrap();
        let prometheus = admin.get("/stats?format=prometheus&filter=b_total").await.1;
        assert_eq!(prometheus, "# TYPE envoy_t_b_total counter\nenvoy_t_b_total 3\n");
        assert_eq!(admin.get("/stats/prometheus?filter=c_unused&usedonly").await.1, "");
        assert_eq!(ask(admin.address, "POST", "/reset_counters").await.0, 200);
        assert_eq!(admin.get("/stats?filter=b_total").await.1, "t.b_total: 0\n");
        scope.counter("b_total").inc();
        assert_eq!(admin.get("/stats?filter=b_total").await.1, "t.b_total: 1\n");
        admin.finish().await;
    });
}

/// The texts are those of Envoy 1.40 for the same state.
#[test]
fn listeners_clusters_and_server() {
    local(async {
        let admin = Served::start().await;
        let listeners = admin.get("/listeners").await.1;
        assert_eq!(listeners, "ingress::127.0.0.1:80\ningress::127.0.0.1:81\nlocal::/run/x.sock\n");
        let json: serde_json::Value = serde_json::from_str(&admin.get("/listeners?format=json").await.1).unwrap();
        let status = &json["listener_statuses"][0];
        assert_eq!(status["local_address"]["socket_address"]["port_value"], 80);
        assert_eq!(status["additional_local_addresses"][0]["socket_address"]["address"], "127.0.0.1");
        let clusters = admin.get("/clusters?filter=%5Eup").await.1;
        let lines: Vec<&str> = clusters.lines().collect();
        assert_eq!(lines.len(), 29);
        assert_eq!(
            lines[..3],
            [
                "up::observability_name::up",
                "up::default_priority::max_connections::1024",
                "up::default_priority::max_pending_requests::1024",
            ]
        );
        assert_eq!(
            lines[9..12],
            [
                "up::added_via_api::false",
                "up::127.0.0.1:29911::cx_active::1",
                "up::127.0.0.1:29911::cx_connect_fail::0",
            ]
        );
        assert_eq!(lines[28], "up::127.0.0.1:29911::local_origin_success_rate::-1");
        let json: serde_json::Value = serde_json::from_str(&admin.get("/clusters?format=json").await.1).unwrap();
        let host = &json["cluster_statuses"][1]["host_statuses"][0];
        assert_eq!(host["stats"][1], serde_json::json!({"name": "cx_total", "value": "1"}));
        assert_eq!(host["stats"][7], serde_json::json!({"name": "rq_active", "type": "GAUGE"}));
        let info: serde_json::Value = serde_json::from_str(&admin.get("/server_info").await.1).unwrap();
        assert_eq!((&info["state"], &info["uptime_all_epochs"]), (&"LIVE".into(), &"77s".into()));
        assert_eq!(info["command_line_options"]["restart_epoch"], 3);
        assert_eq!(info["node"], serde_json::json!({"id": "n", "cluster": "c", "user_agent_name": "heirloom"}));
        let memory: serde_json::Value = serde_json::from_str(&admin.get("/memory").await.1).unwrap();
        assert!(memory["total_physical_bytes"].as_str().unwrap().parse::<u64>().unwrap() > 1_000_000);
        admin.finish().await;
    });
}

#[test]
fn bad_requests_disturb_nothing() {
    local(async {
        let admin = Served::start().await;
        let huge = format!("GET /ready HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
        let many = format!("GET /ready HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
        for request in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &huge, &many] {
            let mut stream = TcpStream::connect(admin.address).await.unwrap();
            let _ = stream.write_all(request.as_bytes()).await;
            let mut response = Vec::new();
            // The rest of what we sent may reset the connection under the answer.
            let _ = stream.read_to_end(&mut response).await;
            let response = String::from_utf8_lossy(&response);
            assert!(response.is_empty() || response.starts_with("HTTP/1.1 4"), "{response}");
        }
        assert_eq!(admin.get("/ready").await.0, 200);
        admin.finish().await;
    });
}

#[test]
fn connections_are_bounded() {
    local(async {
        let admin = Served::start().await;
        let mut idle = Vec::new();
        for _ in 0..64 {
            idle.push(TcpStream::connect(admin.address).await.unwrap());
        }
        let asked = spawn_local({
            let address = admin.address;
            async move { ask(address, "GET", "/stats?filter=http.admin.downstream_cx_(active|total)").await }
        });
        while admin.root.store().segment().counted("http.admin.downstream_cx_total") != Some(64) {
            tokio::task::yield_now().await;
        }
        drop(idle.pop());
        let text = "http.admin.downstream_cx_active: 64\nhttp.admin.downstream_cx_total: 65\n";
        assert_eq!(asked.await.unwrap(), (200, text.to_owned()));
        drop(idle);
        admin.finish().await;
    });
}

/// A scraper that keeps its connection is answered once more, and told.
#[test]
fn a_kept_connection_ends_with_an_answer() {
    local(async {
        let mut admin = Served::start().await;
        let mut stream = TcpStream::connect(admin.address).await.unwrap();
        let request = b"GET /ready HTTP/1.1\r\nhost: admin\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut first = vec![0; 4096];
        let len = stream.read(&mut first).await.unwrap();
        assert!(!String::from_utf8_lossy(&first[..len]).contains("connection: close"));
        drop(admin.stop.take());
        while TcpStream::connect(admin.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        stream.write_all(request).await.unwrap();
        let response = read_all(&mut stream).await;
        assert!(response.contains("connection: close") && response.ends_with("LIVE\n"), "{response}");
        admin.task.await.unwrap();
    });
}

/// The process is about to end: who was accepted and has not asked yet is still answered, who is idle is let go.
#[test]
fn leaving_answers_who_was_accepted_and_closes_who_is_idle() {
    local(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let root = Scope::detached();
        let fake = Rc::new(Fake { state: RefCell::new(State::Live), actions: RefCell::default() });
        let reporter = Rc::new(RefCell::new(Reporter::new(&root, Vec::new())));
        let admin = Admin::new(&root, Box::new(Handle(fake)), reporter, Tags::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let (leave, leaving) = oneshot::channel::<()>();
        let told = async |told: oneshot::Receiver<()>| drop(told.await);
        let server = spawn_local(serve(listener, admin, told(stopped), told(leaving)));
        let request = b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(request).await.unwrap();
        let mut answer = vec![0; 1024];
        assert!(idle.read(&mut answer).await.unwrap() > 0);
        let mut fresh = TcpStream::connect(address).await.unwrap();
        let accepted = root.scope("http").scope("admin").gauge("downstream_cx_active");
        while accepted.lane_value() < 2 {
            tokio::task::yield_now().await;
        }
        drop(stop);
        drop(leave);
        assert_eq!(read_all(&mut idle).await, "");
        fresh.write_all(request).await.unwrap();
        let response = read_all(&mut fresh).await;
        assert!(response.contains("connection: close") && response.ends_with("LIVE\n"), "{response}");
        server.await.unwrap();
    });
}

#[test]
fn a_unix_socket_serves_too() {
    local(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let root = Scope::detached();
        let fake = Rc::new(Fake { state: RefCell::new(State::Initializing), actions: RefCell::default() });
        let reporter = Rc::new(RefCell::new(Reporter::new(&root, Vec::new())));
        let admin = Admin::new(&root, Box::new(Handle(fake)), reporter, Tags::default());
        let server = spawn_local(serve(listener, admin, std::future::pending(), std::future::pending()));
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n").await.unwrap();
        let response = read_all(&mut stream).await;
        assert!(response.starts_with("HTTP/1.0 503 ") && response.ends_with("INITIALIZING\n"), "{response}");
        server.abort();
    });
}

/// Two epochs accept from the same socket, the old one ends under fire: no scrape fails, no counter falls.
#[test]
fn a_scrape_during_a_takeover_never_fails_nor_goes_back() {
    local(async {
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let segment = Segment::create(Geometry::small()).unwrap();
        let epoch = |number| {
            let listener = TcpListener::from_std(socket.try_clone().unwrap()).unwrap();
            Served::over(listener, Store::new(segment.clone(), number))
        };
        let mut serving = epoch(0);
        let address = socket.local_addr().unwrap();
        let (mut last, mut asked) = (0, 0);
        for next in 1..8 {
            let new = epoch(next);
            let mut old = Some(serving);
            for round in 0..20 {
                old.as_ref().unwrap_or(&new).root.counter("requests").inc();
                let target = "/stats?filter=%5Ehttp.admin.downstream_rq_total|%5Erequests";
                let (status, body) = ask(address, "GET", target).await;
                asked += 1;
                assert_eq!(status, 200);
                let numbers: Vec<u64> =
                    body.lines().map(|line| line.split_once(": ").unwrap().1.parse().unwrap()).collect();
                assert_eq!(numbers, [asked, asked], "each request was counted once, by whoever answered it");
                assert!(numbers[0] > last);
                last = numbers[0];
                if round == 10 {
                    segment.set_newest(next);
                    old.take().unwrap().finish().await;
                    segment.fold(next - 1);
                }
            }
            serving = new;
        }
        serving.finish().await;
    });
}
