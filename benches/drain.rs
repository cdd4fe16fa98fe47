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
/// How long the last request takes: CPU is measured while the drain waits for it.
const LAST: Duration = Duration::from_secs(12);

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        Some("server") => serve(),
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
    let mut server = spawn(&["server"])?;
    let mut lines = BufReader::new(server.stdout.take().context("stdout")?).lines();
    let port: u16 = lines.next().context("the server's port")??.parse()?;
    let mut connections = connect(port, count)?;
    let (consul, asked) = consul()?;

    // One request is under way when the drain begins; the answer to it is the last.
    let mut last = connections.pop().context("a connection")?;
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
    server.kill()?;
    server.wait()?;
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

/// Runs the measure in a network namespace of its own, with room for its connections.
fn inside(count: &str) -> Result<()> {
    let exe = std::env::current_exe()?;
    let script = "ulimit -n 200000 && ip link set lo up && exec \"$0\" inside \"$1\"";
    let status = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", script])
        .arg(exe)
        .arg(count)
        .status()?;
    ensure!(
        status.success(),
        "needs root, for a network namespace and {count} open files"
    );
    Ok(())
}

fn spawn(args: &[&str]) -> Result<Child> {
    Ok(Command::new(std::env::current_exe()?)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?)
}

/// Answers each line; a line `sN` after N milliseconds. One thread for all connections, and one for each slow answer.
fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut first = [0; 2];
        stream.read_exact(&mut first)?;
        stream.write_all(b"ok\n")?;
        let slow = stream.try_clone()?;
        // The last connection of the measure is asked again; it is the one whose first line says so.
        if first[0] == b'w' {
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

/// Keep-alive connections, each used once, from as many local addresses as their number needs.
fn connect(port: u16, count: usize) -> Result<Vec<TcpStream>> {
    let mut all = Vec::with_capacity(count);
    for n in 0..count {
        let address = Ipv4Addr::from(0x7f00_0001 + u32::try_from(n / 20_000)?);
        let mut stream = TcpStream::connect((address, port))?;
        stream.write_all(if n + 1 == count { b"w\n" } else { b"i\n" })?;
        let mut answer = [0; 3];
        stream.read_exact(&mut answer)?;
        all.push(stream);
    }
    Ok(all)
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
