//! What one look at N sockets costs, beside the least that the kernel allows and beside what others do.
//!
//! `cargo bench -p sockdiag -- 1000 10000 100000`, or other numbers. Sockets are both ends of loopback connections in a network
//! namespace of its own, held by several processes; 1 % of them belong to one service. Each reader runs in a process of its own, in
//! turns, and the best of its looks counts. Below each table: how they compare when all sockets are ours, and when that 1 % is.

#[path = "../../tests/kernel/host.rs"]
mod host;
mod readers;
mod scene;

use readers::{Look, Reader};
use scene::Scene;
use std::process::Command;
use std::time::Duration;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How often each reader has its turn.
const TURNS: usize = 5;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["inside", sockets] => inside(sockets.parse()?),
        ["hold", port, connections, cgroup] => {
            scene::hold(port.parse()?, connections.parse()?, *cgroup == "cgroup")
        }
        ["read", name, cgroup] => readers::read(name, cgroup.parse()?),
        given => start(given),
    }
}

/// Goes on in a namespace for each number. Cargo gives `--bench` when it is to be measured, and nothing when it is only tried.
fn start(given: &[&str]) -> Result<()> {
    let mut counts: Vec<&str> = given
        .iter()
        .copied()
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    if counts.is_empty() && given.contains(&"--bench") {
        counts = vec!["1000", "10000", "100000"];
    } else if counts.is_empty() {
        counts = vec!["100"];
    }
    for count in counts {
        let Some(mut command) = host::self_in_namespace()? else {
            return Err("no network namespace can be made (unshare --net)".into());
        };
        if !command.args(["inside", count]).status()?.success() {
            return Err(format!("{count} sockets failed").into());
        }
    }
    Ok(())
}

fn inside(sockets: usize) -> Result<()> {
    host::loopback_up()?;
    let scene = Scene::new(sockets)?;
    table(&scene)?;
    scene.end()
}

fn table(scene: &Scene) -> Result<()> {
    let mut best: Vec<(Reader, Option<Look>)> = Reader::ALL.map(|reader| (reader, None)).to_vec();
    for _ in 0..TURNS {
        for (reader, best) in &mut best {
            if let Some(look) = turn(*reader, scene)? {
                *best = Some(best.map_or(look, |old| old.best(look)));
            }
        }
    }
    println!("\n{} sockets, {} of them ours", scene.sockets, scene.ours);
    println!(
        "{:44}{:>9}{:>7}{:>9}{:>7}{:>8}{:>9}",
        "", "wall ms", "x", "cpu ms", "x", "rows", "KiB"
    );
    let find = |wanted: Reader| {
        let look = best.iter().find(|(reader, _)| *reader == wanted);
        look.and_then(|(_, look)| *look)
    };
    let base = find(Reader::Bare).ok_or("nothing measured")?;
    for (reader, look) in &best {
        match look {
            None => println!("{:44} not available here", reader.title()),
            Some(look) => println!(
                "{:44}{:9.2}{:7.2}{:9.2}{:7.2}{:8}{:9}",
                reader.title(),
                millis(look.wall),
                ratio(look.wall, base.wall),
                millis(look.cpu),
                ratio(look.cpu, base.cpu),
                look.rows,
                look.peak,
            ),
        }
    }
    let cases = [
        ("all ours", Reader::Dump, Reader::Bare),
        ("1 % ours", Reader::Port, Reader::BarePort),
    ];
    for (title, look, bare) in cases {
        let Some(look) = find(look) else { continue };
        print!("{title}: a look takes");
        if let Some(bare) = find(bare) {
            let (wall, cpu) = (ratio(look.wall, bare.wall), ratio(look.cpu, bare.cpu));
            print!(" {wall:.2} x the bare loop (CPU {cpu:.2})");
        }
        for (name, other) in [("ss", Reader::Ss), ("/proc/net/tcp", Reader::Proc)] {
            if let Some(other) = find(other) {
                let (wall, cpu) = (ratio(other.wall, look.wall), ratio(other.cpu, look.cpu));
                print!(", {name} {wall:.1} x as long as it (CPU {cpu:.1})");
            }
        }
        println!();
    }
    // No dump can cost less than one without evidence.
    if let (Some(floor), Some(proc)) = (find(Reader::Floor), find(Reader::Proc)) {
        let (wall, cpu) = (ratio(proc.wall, floor.wall), ratio(proc.cpu, floor.cpu));
        println!(
            "all ours: /proc/net/tcp {wall:.1} x as long as a dump without evidence, nothing parsed (CPU {cpu:.1})"
        );
    }
    Ok(())
}

/// The best of a few looks of one process.
fn turn(reader: Reader, scene: &Scene) -> Result<Option<Look>> {
    let cgroup = match (reader, scene.cgroup) {
        (Reader::Cgroup, None) => return Ok(None),
        (_, cgroup) => cgroup.unwrap_or_default(),
    };
    let output = Command::new(std::env::current_exe()?)
        .args(["read", reader.name(), &cgroup.to_string()])
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        println!("{}: {}", reader.title(), said.trim());
        return Ok(None);
    }
    Look::decode(&String::from_utf8(output.stdout)?).map(Some)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(time: Duration, base: Duration) -> f64 {
    time.as_secs_f64() / base.as_secs_f64()
}
