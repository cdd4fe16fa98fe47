//! Checks programs with the kernel's own rules and semantics, written again from `net/ipv4/inet_diag.c`.

use super::{CGROUP, JMP, LIMIT, SPORT_EQ, SPORT_GE, SPORT_LE, compile};
use crate::Error;
use proptest::prelude::*;

fn op(program: &[u8], at: usize) -> (u8, usize, usize) {
    let no = u16::from_ne_bytes([program[at + 2], program[at + 3]]);
    (program[at], program[at + 1].into(), no.into())
}

fn operand(program: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([program[at + 6], program[at + 7]])
}

/// `inet_diag_bc_audit`: every operation is walked by `yes`, every `no` must land on one of them or at an end.
fn audit(program: &[u8]) -> Result<(), String> {
    let mut starts = vec![];
    let mut at = 0;
    while at < program.len() {
        starts.push(at);
        at += op(program, at).1;
    }
    if at != program.len() {
        return Err(format!("walk ends at {at} of {}", program.len()));
    }
    for &at in &starts {
        let (code, yes, no) = op(program, at);
        let least = match code {
            JMP => 4,
            SPORT_EQ | SPORT_GE | SPORT_LE => 8,
            CGROUP => 12,
            other => return Err(format!("code {other} at {at}")),
        };
        let left = program.len() - at;
        for jump in [yes, no] {
            if jump < least || jump > left + 4 || jump % 4 != 0 {
                return Err(format!("jump of {jump} at {at}, {left} left"));
            }
        }
        if no < left && !starts.contains(&(at + no)) {
            return Err(format!("jump from {at} into an operation"));
        }
    }
    Ok(())
}

/// `inet_diag_bc_run`: the verdict on a socket.
fn run(program: &[u8], port: u16, cgroup: u64) -> bool {
    let mut at = 0;
    while at < program.len() {
        let (code, yes, no) = op(program, at);
        let holds = match code {
            JMP => false,
            SPORT_EQ => port == operand(program, at),
            SPORT_GE => port >= operand(program, at),
            SPORT_LE => port <= operand(program, at),
            _ => program[at + 4..at + 12] == cgroup.to_ne_bytes(),
        };
        at += if holds { yes } else { no };
    }
    at == program.len()
}

#[test]
fn no_lists_need_no_program() {
    assert_eq!(compile(&[], &[]), Ok(vec![]));
}

#[test]
fn one_port_is_one_operation() {
    let mut want = vec![SPORT_EQ, 8];
    want.extend(12u16.to_ne_bytes());
    want.extend([0, 0]);
    want.extend(443u16.to_ne_bytes());
    assert_eq!(compile(&[443, 443], &[]), Ok(want));
}

#[test]
fn all_ports_are_one_range() {
    let all: Vec<u16> = (0..=u16::MAX).rev().collect();
    assert_eq!(compile(&all, &[]).map(|p| p.len()), Ok(16));
}

#[test]
fn hundreds_of_ports_and_cgroups_pass_the_kernels_audit() {
    let ports: Vec<u16> = (0..900).map(|n| 1000 + 7 * n).collect();
    let cgroups: Vec<u64> = (0..300).map(|n| u64::MAX - 3 * n).collect();
    let program = compile(&ports, &cgroups).unwrap();
    assert_eq!(audit(&program), Ok(()));
    assert!(run(&program, 1000 + 7 * 899, u64::MAX - 3 * 299));
    assert!(!run(&program, 1001, u64::MAX));
    assert!(!run(&program, 1000, 5));
}

#[test]
fn a_list_that_does_not_fit_is_an_error_and_the_longest_that_fits_is_sound() {
    let ports: Vec<u16> = (0..5461).map(|n| 2 * n).collect();
    let program = compile(&ports, &[]).unwrap();
    assert_eq!(program.len(), LIMIT);
    assert_eq!(audit(&program), Ok(()));
    assert!(run(&program, 2 * 5460, 0));
    let ports: Vec<u16> = (0..5462).map(|n| 2 * n).collect();
    let error = Error::FilterTooLong {
        bytes: 65_540,
        limit: LIMIT,
    };
    assert_eq!(compile(&ports, &[]), Err(error));
}

proptest! {
    #[test]
    fn a_program_means_what_the_lists_say(
        ports in prop::collection::vec(0u16..40, 0..20),
        cgroups in prop::collection::vec(0u64..10, 0..8),
    ) {
        let program = compile(&ports, &cgroups).unwrap();
        prop_assert_eq!(audit(&program), Ok(()));
        for port in 0..42 {
            for cgroup in 0..11 {
                let want = (ports.is_empty() || ports.contains(&port))
                    && (cgroups.is_empty() || cgroups.contains(&cgroup));
                prop_assert_eq!(run(&program, port, cgroup), want, "port {} cgroup {}", port, cgroup);
            }
        }
    }
}
