//! The filter program that the kernel runs over every socket (`INET_DIAG_REQ_BYTECODE`). Pure.
//!
//! An operation is `{ code: u8, yes: u8, no: u16 }` and its operands; `yes` and `no` are how far to jump, in bytes and
//! only forward. A jump to the very end accepts the socket, one to 4 bytes behind the end rejects it. The kernel checks
//! every program before it runs (`inet_diag_bc_audit` in `net/ipv4/inet_diag.c`): jumps are multiples of 4, `yes` is
//! at least the size of the operation, and `no` lands on an operation or at one of the two ends.

use crate::Error;

/// The longest program: with its header it must fit the 16-bit length of an attribute, as must a jump over all of it.
pub(crate) const LIMIT: usize = 65_528;

const JMP: u8 = 1;
const SPORT_GE: u8 = 2;
const SPORT_LE: u8 = 3;
const SPORT_EQ: u8 = 11;
const CGROUP: u8 = 13;

/// Size of an operation without operands; also how far behind the end a rejecting jump lands.
const OP: usize = 4;

/// One alternative of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Port(u16),
    /// Both ends belong to it.
    Ports(u16, u16),
    Cgroup(u64),
}

impl Condition {
    const fn size(self) -> usize {
        match self {
            Self::Port(_) => 2 * OP,
            Self::Ports(..) => 4 * OP,
            Self::Cgroup(_) => OP + 8,
        }
    }
}

/// Writes the program for "local port is one of `ports`, and cgroup is one of `cgroups`"; an empty list matches all.
///
/// No program at all (no bytes) when both are empty.
pub(crate) fn compile(ports: &[u16], cgroups: &[u64]) -> Result<Vec<u8>, Error> {
    let lists = [port_conditions(ports), cgroup_conditions(cgroups)];
    let size = lists.iter().map(|list| list_size(list)).sum();
    if size > LIMIT {
        return Err(Error::FilterTooLong {
            bytes: size,
            limit: LIMIT,
        });
    }
    let mut program = Program {
        bytes: Vec::with_capacity(size),
        size,
    };
    for list in lists.iter().filter(|list| !list.is_empty()) {
        program.any_of(list)?;
    }
    Ok(program.bytes)
}

fn list_size(list: &[Condition]) -> usize {
    // A jump behind each but the last.
    list.iter()
        .map(|c| c.size() + OP)
        .sum::<usize>()
        .saturating_sub(OP)
}

/// Neighbouring ports become one range: supervisors give numbered programs neighbouring ports.
fn port_conditions(ports: &[u16]) -> Vec<Condition> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    ports
        .chunk_by(|a, b| a.checked_add(1) == Some(*b))
        .filter_map(|run| match (run.first(), run.last()) {
            (Some(first), Some(last)) if first == last => Some(Condition::Port(*first)),
            (Some(first), Some(last)) => Some(Condition::Ports(*first, *last)),
            _ => None,
        })
        .collect()
}

fn cgroup_conditions(cgroups: &[u64]) -> Vec<Condition> {
    let mut cgroups = cgroups.to_vec();
    cgroups.sort_unstable();
    cgroups.dedup();
    cgroups.into_iter().map(Condition::Cgroup).collect()
}

struct Program {
    bytes: Vec<u8>,
    /// What `bytes` will measure in the end.
    size: usize,
}

impl Program {
    /// Goes on behind the list when one condition holds, rejects when none does.
    fn any_of(&mut self, list: &[Condition]) -> Result<(), Error> {
        let end = self.bytes.len() + list_size(list);
        for condition in list {
            let behind = self.bytes.len() + condition.size();
            if behind == end {
                self.condition(*condition, self.size + OP)?;
            } else {
                self.condition(*condition, behind + OP)?;
                self.op(JMP, OP, end)?;
            }
        }
        Ok(())
    }

    /// Writes one condition that goes to the offset `no` when it does not hold.
    fn condition(&mut self, condition: Condition, no: usize) -> Result<(), Error> {
        match condition {
            Condition::Port(port) => self.port_op(SPORT_EQ, port, no),
            Condition::Ports(first, last) => {
                self.port_op(SPORT_GE, first, no)?;
                self.port_op(SPORT_LE, last, no)
            }
            Condition::Cgroup(id) => {
                self.op(CGROUP, OP + 8, no)?;
                self.bytes.extend(id.to_ne_bytes());
                Ok(())
            }
        }
    }

    /// The port is in host order, in the `no` of an otherwise empty operation.
    fn port_op(&mut self, code: u8, port: u16, no: usize) -> Result<(), Error> {
        self.op(code, 2 * OP, no)?;
        self.bytes.extend([0, 0]);
        self.bytes.extend(port.to_ne_bytes());
        Ok(())
    }

    /// Writes an operation that goes `yes` bytes on, or else to the offset `no`.
    fn op(&mut self, code: u8, yes: usize, no: usize) -> Result<(), Error> {
        let too_long = |_| Error::FilterTooLong {
            bytes: self.size,
            limit: LIMIT,
        };
        let yes = u8::try_from(yes).map_err(too_long)?;
        let no = u16::try_from(no - self.bytes.len()).map_err(too_long)?;
        self.bytes.extend([code, yes]);
        self.bytes.extend(no.to_ne_bytes());
        Ok(())
    }
}

#[cfg(test)]
#[path = "bytecode_tests.rs"]
mod tests;
