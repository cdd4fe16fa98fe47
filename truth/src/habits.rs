//! What a client does on one connection, from its beginning to its end.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use crate::client::{self, Client, To};
use crate::dice::Dice;
use crate::http2;
use crate::plan::Plan;

pub(crate) fn nap(dice: &mut Dice, low: u64, high: u64) {
    sleep(Duration::from_millis(dice.between(low, high)));
}

fn size(dice: &mut Dice, high: u64) -> usize {
    usize::try_from(dice.between(0, high)).unwrap_or_default()
}

/// How long a server works on a request: half of them are over within a tick.
fn work(dice: &mut Dice) -> u64 {
    match dice.between(1, 100) {
        1..=50 => 0,
        51..=70 => 20,
        71..=90 => 300,
        _ => dice.between(2000, 8000),
    }
}

/// What a client does before its next request: mostly nothing, so that it meets the last answer in one tick.
fn think(dice: &mut Dice) {
    match dice.between(1, 100) {
        1..=60 => {}
        61..=75 => nap(dice, 10, 60),
        76..=90 => nap(dice, 300, 1500),
        _ => nap(dice, 2000, 13_000),
    }
}

pub(crate) fn reuse(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    // Now and then a first request, too.
    while !dice.percent(3) {
        let plan = Plan::after(work(dice), size(dice, 2000));
        client.ask(&plan, 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

pub(crate) fn bodies(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(3) {
        let largest = [1000, 20_000, 200_000][size(dice, 2)];
        let plan = Plan::after(work(dice), size(dice, largest));
        client.ask(&plan, size(dice, largest))?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

/// How long a server works on a first request: now and then longer than anything is held in doubt.
fn long_work(dice: &mut Dice) -> u64 {
    if dice.percent(20) {
        dice.between(11_000, 16_000)
    } else {
        work(dice)
    }
}

/// One request at once, perhaps another, and then nothing for a while.
pub(crate) fn first(to: To, dice: &mut Dice) -> Result<()> {
    let wait = long_work(dice);
    few(to, dice, wait)
}

/// As [`first`], with less work.
pub(crate) fn first_quick(to: To, dice: &mut Dice) -> Result<()> {
    let wait = work(dice);
    few(to, dice, wait)
}

/// As [`first`], with answers no longer than what handshakes differ by.
pub(crate) fn first_alike(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    let body = size(dice, 4000);
    client.ask(
        &Plan::after(long_work(dice), size(dice, ALIKE as u64)),
        body,
    )?;
    client.answer()?;
    nap(dice, 1000, 13_000);
    Ok(())
}

/// Bytes of an answer that may be what handshakes differ by: a post-quantum key share, and 200.
const ALIKE: usize = 1300;

fn few(to: To, dice: &mut Dice, wait: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    let body = if dice.percent(30) {
        size(dice, 8000)
    } else {
        0
    };
    let answer = |dice: &mut Dice| size(dice, 6000);
    client.ask(&Plan::after(wait, answer(dice)), body)?;
    client.answer()?;
    think(dice);
    if dice.percent(30) {
        client.ask(&Plan::after(work(dice), answer(dice)), 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

/// Nothing for a while, and perhaps a request.
pub(crate) fn ahead(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    nap(dice, 1000, 15_000);
    if dice.percent(50) {
        client.ask(&Plan::after(work(dice), size(dice, 2000)), 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

pub(crate) fn pipelined(to: To, dice: &mut Dice, low: u64, high: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plans = [0; 3].map(|_| Plan::after(dice.between(low, high), size(dice, 500)));
        let heads = plans.map(|plan| client::head(&plan, 0, ""));
        client.send(heads.concat().as_bytes())?;
        for _ in plans {
            client.answer()?;
        }
        think(dice);
    }
    Ok(())
}

pub(crate) fn expect(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plan = Plan::after(work(dice), size(dice, 500));
        let body = 1 + size(dice, 20_000);
        client.ask_and_wait(&plan, body)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

pub(crate) fn parts(to: To, dice: &mut Dice, low: u64, high: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plan = Plan {
            wait: work(dice).min(300),
            size: 1 + size(dice, 5000),
            parts: dice.between(2, 6),
            gap: dice.between(low, high),
            early: false,
        };
        client.ask(&plan, 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

pub(crate) fn header_first(to: To, dice: &mut Dice, low: u64, high: u64) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        let plan = Plan {
            gap: dice.between(low, high),
            ..Plan::after(work(dice).min(300), 1 + size(dice, 5000))
        };
        client.ask(&plan, 0)?;
        client.answer()?;
        think(dice);
    }
    Ok(())
}

pub(crate) fn long_poll(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(5) {
        client.ask(&Plan::after(dice.between(5000, 25_000), 100), 0)?;
        client.answer()?;
    }
    Ok(())
}

pub(crate) fn early(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    let plan = Plan {
        early: true,
        ..Plan::after(0, 100)
    };
    client.ask_half(&plan, 20_000)?;
    client.answer()?;
    nap(dice, 500, 3000);
    client.send(&[b'.'; 10_000])?;
    nap(dice, 1000, 3000);
    Ok(())
}

pub(crate) fn half_closed(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    let before = dice.between(0, 2);
    for _ in 0..before {
        client.ask(&Plan::after(0, 100), 0)?;
        client.answer()?;
    }
    client.ask(&Plan::after(work(dice), size(dice, 20_000)), 0)?;
    nap(dice, 0, 3);
    client.half_close()?;
    client.answer()?;
    nap(dice, 0, 2000);
    Ok(())
}

pub(crate) fn vanishing(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    while !dice.percent(40) {
        client.ask(&Plan::after(work(dice).min(300), size(dice, 5000)), 0)?;
        client.answer()?;
        think(dice);
    }
    client.ask(&Plan::after(dice.between(200, 4000), 100), 0)?;
    nap(dice, 0, 1000);
    client.vanish()
}

/// How many connections a pool holds.
const POOL: usize = 1000;

/// A pool that was used by a crowd, then by quick requests, and then not at all.
pub(crate) fn pool(to: To, dice: &mut Dice) -> Result<()> {
    let clients: Result<Vec<_>> = (0..POOL).map(|_| Client::connect(to)).collect();
    let mut clients = clients?;
    for wait in [1500, 0, 0] {
        for client in &mut clients {
            client.ask(&Plan::after(wait, 100), 0)?;
        }
        for client in &mut clients {
            client.answer()?;
        }
    }
    nap(dice, 25_000, 30_000);
    Ok(())
}

/// One request after another on a connection, some of them long.
pub(crate) fn h2_unary(to: To, dice: &mut Dice) -> Result<()> {
    h2_unary_after(to, dice, 20)
}

/// As [`h2_unary`], with a pause of at least so many milliseconds after each answer.
pub(crate) fn h2_unary_after(to: To, dice: &mut Dice, pause: u64) -> Result<()> {
    let mut client = http2::Client::connect(to)?;
    while !dice.percent(10) {
        let wait = long_work(dice);
        client.ask(
            &Plan::after(wait, size(dice, 20_000)),
            100 + size(dice, 200),
        )?;
        client.idle(pause);
        idle(&mut client, dice);
    }
    Ok(())
}

fn idle(client: &mut http2::Client, dice: &mut Dice) {
    client.idle(match dice.between(1, 10) {
        1..=4 => 0,
        5..=7 => dice.between(20, 1500),
        _ => dice.between(2000, 14_000),
    });
}

/// Pings all the time, with a long request now and then.
pub(crate) fn h2_pings(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = http2::Client::connect(to)?;
    while !dice.percent(20) {
        client.ask_pinging(&Plan::after(long_work(dice), 1000), 2000)?;
        client.ping(2000, dice.between(1, 10))?;
    }
    Ok(())
}

pub(crate) fn h2_server_streaming(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = http2::Client::connect(to)?;
    while !dice.percent(20) {
        let plan = Plan {
            wait: work(dice),
            size: size(dice, 5000),
            parts: dice.between(2, 6),
            gap: dice.between(50, 8000),
            early: false,
        };
        client.ask(&plan, 100)?;
        idle(&mut client, dice);
    }
    Ok(())
}

pub(crate) fn h2_bidirectional(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = http2::Client::connect(to)?;
    while !dice.percent(20) {
        let mut talk = client.talk()?;
        for _ in 0..dice.between(2, 6) {
            client.idle(dice.between(50, 8000));
            client.say(&mut talk, 50 + size(dice, 5000))?;
        }
        client.end(talk)?;
        idle(&mut client, dice);
    }
    Ok(())
}

/// A longer request, and shorter ones beside it.
pub(crate) fn h2_shared(to: To, dice: &mut Dice, longest: u64) -> Result<()> {
    let mut client = http2::Client::connect(to)?;
    while !dice.percent(20) {
        let plans = [longest, 2000, 500].map(|most| Plan::after(dice.between(most / 4, most), 500));
        client.ask_all(&plans)?;
        idle(&mut client, dice);
    }
    Ok(())
}

/// A WebSocket with conversations, and silence between them.
pub(crate) fn conversations(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    client.upgrade()?;
    while !dice.percent(10) {
        client.say(b"hello [")?;
        for _ in 0..dice.between(1, 5) {
            nap(dice, 50, 8000);
            client.say(&vec![b'.'; 1 + size(dice, 3000)])?;
        }
        client.say(b"bye ]")?;
        nap(dice, 1000, 15_000);
    }
    Ok(())
}

/// A WebSocket that is silent for long.
pub(crate) fn silent_socket(to: To, dice: &mut Dice) -> Result<()> {
    let mut client = Client::connect(to)?;
    client.upgrade()?;
    for _ in 0..dice.between(1, 4) {
        client.say(b"still here")?;
        nap(dice, 1000, 20_000);
    }
    Ok(())
}
