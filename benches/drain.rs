//! What a drain costs, on this machine, in one run: start to the first byte of the leave request, peak memory and CPU while it
//! watches many connections, and how long it goes on after the last answer.
//!
//! `cargo bench --bench drain -- [CONNECTIONS]` (20 000 unless told). As root it makes a network namespace of its own; the
//! programs end with it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use drainctl::config::{PoolSpec, Settings};
use drainctl::drain::engine::{self, Order};
use drainctl::drain::target::Target;
use drainctl::world::Root;

const CONNECTIONS: &str = "20000";
/// So many files a process may surely hold.
const PER_PROCESS: usize = 900;
/// How long the last request takes: CPU is measured while the drain waits for it.
const LAST: Duration = Duration::from_secs(12);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        Some("servers") => servers(args.next().context("processes")?.parse()?),
        Some("server") => serve(),
        Some("client") => {
            let port = args.next().context("port")?.parse()?;
            hold(port, args.next().context("connections")?.parse()?)
        }
        Some("drain") => drain(
            &args.next().context("pid")?,
            &args.next().context("state")?,
            &args.next().context("consul")?,
        ),
        Some("inside") => measure(args.next().context("count")?.parse()?),
        count => inside(count.unwrap_or(CONNECTIONS)),
    }
}

fn measure(count: usize) -> Result<()> {
    let state = tempfile::tempdir()?;
    let processes = count.div_ceil(PER_PROCESS);
    let mut server = spawn(&["servers", &processes.to_string()])?;
    let ports = lines(&mut server, processes)?;
    let mut clients = Vec::new();
    for port in &ports {
        let mut client = spawn(&["client", port, &(count / processes).to_string()])?;
        lines(&mut client, 1)?;
        clients.push(client);
    }
    let mut last = connect(ports[0].parse()?, b"w\n")?;
    let (consul, asked) = consul()?;

    // One request is under way when the drain begins; the answer to it is the last.
    last.write_all(format!("s{}\n", LAST.as_millis()).as_bytes())?;
    let began = Instant::now();
    let mut drain = spawn(&[
        "drain",
        &server.id().to_string(),
        &state.path().to_string_lossy(),
        &consul.to_string(),
    ])?;
    let first_byte = asked.recv_timeout(LAST)?.duration_since(began);
    // Past the settle, before the last answer.
    std::thread::sleep((LAST / 2).saturating_sub(began.elapsed()));
    let (before, at) = (cpu(&drain)?, Instant::now());
    let mut answer = [0; 3];
    last.read_exact(&mut answer)?;
    let answered = Instant::now();
    let waiting = (cpu(&drain)? - before) / at.elapsed().as_secs_f64() * 100.0;
    let peak = peak_kib(&drain)?;
    let status = drain.wait()?;
    let after = answered.elapsed();
    for mut child in clients.into_iter().chain([server]) {
        drop(child.stdin.take());
        child.wait()?;
    }
    println!("connections watched                        {count}");
    println!(
        "start to first byte of the leave request   {:.1} ms",
        first_byte.as_secs_f64() * 1e3
    );
    println!(
        "peak memory of the drain                   {:.1} MB",
        peak as f64 / 1e3
    );
    println!("CPU while waiting                          {waiting:.2} % of a core");
    println!(
        "end after the last answer                  {:.0} ms (watch.pause is {:?})",
        after.as_secs_f64() * 1e3,
        Settings::default().watch.pause
    );
    println!(
        "exit code                                  {:?}",
        status.code()
    );
    Ok(())
}

/// Runs the measure in a network namespace of its own.
fn inside(count: &str) -> Result<()> {
    let script = "ip link set lo up && exec \"$0\" inside \"$1\"";
    let status = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", script])
        .arg(std::env::current_exe()?)
        .arg(count)
        .status()?;
    ensure!(status.success(), "failed; a network namespace needs root");
    Ok(())
}

fn spawn(args: &[&str]) -> Result<Child> {
    Ok(Command::new(std::env::current_exe()?)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?)
}

/// The first lines that a child prints.
fn lines(child: &mut Child, count: usize) -> Result<Vec<String>> {
    let reader = BufReader::new(child.stdout.take().context("stdout")?);
    let lines = reader
        .lines()
        .take(count)
        .collect::<std::io::Result<Vec<_>>>()?;
    ensure!(lines.len() == count, "a process of the bench ended early");
    Ok(lines)
}

/// Children end with this process: their standard input does.
fn until_parent_ends() -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    std::process::exit(0)
}

/// As many servers as the limit of open files asks for, all below one process: the target.
fn servers(processes: usize) -> Result<()> {
    let mut children = Vec::new();
    for _ in 0..processes {
        let mut child = spawn(&["server"])?;
        println!("{}", lines(&mut child, 1)?[0]);
        children.push(child);
    }
    until_parent_ends()
}

/// Answers the first line of each connection, and one more on a connection whose first was `w`: `sN` after N milliseconds.
fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    println!("{}", listener.local_addr()?.port());
    std::thread::spawn(until_parent_ends);
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut first = [0; 2];
        stream.read_exact(&mut first)?;
        stream.write_all(b"ok\n")?;
        if first[0] == b'w' {
            let slow = stream.try_clone()?;
            std::thread::spawn(move || answer_slowly(slow));
        }
        kept.push(stream);
    }
    Ok(())
}

fn answer_slowly(mut stream: TcpStream) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let millis = line.trim().trim_start_matches('s').parse()?;
    std::thread::sleep(Duration::from_millis(millis));
    stream.write_all(b"ok\n")?;
    Ok(())
}

/// Holds keep-alive connections, each used once.
fn hold(port: u16, count: usize) -> Result<()> {
    let kept = (0..count)
        .map(|_| connect(port, b"i\n"))
        .collect::<Result<Vec<_>>>()?;
    println!("ready");
    until_parent_ends()?;
    drop(kept);
    Ok(())
}

fn connect(port: u16, request: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(request)?;
    stream.read_exact(&mut [0; 3])?;
    Ok(stream)
}

/// The answers of a Consul agent that knows one service; tells when maintenance is asked for.
fn consul() -> Result<(SocketAddr, Receiver<Instant>)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        let mut out = None;
        for stream in listener.incoming().flatten() {
            let _ = answer_as_consul(stream, &tell, &mut out);
        }
    });
    Ok((address, asked))
}

fn answer_as_consul(
    stream: TcpStream,
    tell: &Sender<Instant>,
    out: &mut Option<String>,
) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut request = String::new();
    while reader.read_line(&mut request)? > 0 {
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(Ok(0), |n| n.parse())?;
        reader.read_exact(&mut vec![0; length])?;
        let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
        if target.starts_with("/v1/agent/maintenance") {
            let _ = tell.send(Instant::now());
            let reason = target.split("reason=").nth(1).unwrap_or_default();
            *out = Some(decode(reason.split('&').next().unwrap_or_default()));
        }
        let body = consul_body(&target, out.as_deref());
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        request.clear();
    }
    Ok(())
}

fn consul_body(target: &str, out: Option<&str>) -> String {
    let maintenance = serde_json::json!({ "Node": "n", "CheckID": "_node_maintenance", "Name": "Node Maintenance Mode",
        "Status": "critical", "Notes": out, "ServiceID": "", "ServiceName": "", "Output": "" });
    let checks: Vec<_> = out.iter().map(|_| maintenance.clone()).collect();
    match target.split('?').next().unwrap_or_default() {
        "/v1/agent/checks" => out.map_or_else(
            || "{}".to_owned(),
            |_| serde_json::json!({ "_node_maintenance": maintenance }).to_string(),
        ),
        "/v1/agent/services" => {
            serde_json::json!({ "app": { "ID": "app", "Service": "app", "Port": 1 } }).to_string()
        }
        "/v1/agent/self" => serde_json::json!({ "Config": { "NodeName": "n" } }).to_string(),
        path if path.starts_with("/v1/health/service/") => {
            serde_json::json!([{ "Node": { "Node": "n" },
            "Service": { "ID": "app", "Service": "app" }, "Checks": checks }])
            .to_string()
        }
        path if path.starts_with("/v1/health/node/") => serde_json::json!(checks).to_string(),
        _ => "null".to_owned(),
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |b: Option<u8>| {
            b.and_then(|b| char::from(b).to_digit(16))
                .unwrap_or_default()
        };
        bytes.push(if byte == b'%' {
            u8::try_from(hex(rest.next()) * 16 + hex(rest.next())).unwrap_or_default()
        } else {
            byte
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The drain as a process of its own.
fn drain(pid: &str, state: &str, consul: &str) -> Result<()> {
    let consul = PoolSpec {
        name: "consul".to_owned(),
        kind: "consul".to_owned(),
        limit: Duration::from_secs(15),
        settings: serde_json::json!({ "address": format!("http://{consul}") }),
    };
    let order = Order {
        root: Root::host(),
        state: Root::at(state),
        target: Target::Process {
            pid: pid.parse()?,
            name: "bench".to_owned(),
        },
        settings: Settings {
            pools: vec![consul],
            ..Settings::default()
        },
        notes: Vec::new(),
        as_hook: false,
        limit: None,
    };
    let report = engine::run(&order, channel(), &mut |_, _| {});
    ensure!(report.exit == 0, "{report:?}");
    Ok(())
}

/// Seconds of CPU used so far, by all threads (`utime` and `stime` of proc(5), in ticks of 10 ms).
fn cpu(child: &Child) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let ticks = fields.get(11).context("utime")?.parse::<f64>()?
        + fields.get(12).context("stime")?.parse::<f64>()?;
    Ok(ticks / 100.0)
}

fn peak_kib(child: &Child) -> Result<u32> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .context("VmHWM")?;
    Ok(line
        .split_ascii_whitespace()
        .nth(1)
        .context("a number")?
        .parse()?)
}
