//! The memory of a process that will sleep for weeks.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

/// One mapping, as far as the lines read so far tell.
struct Mapping {
    start: usize,
    end: usize,
    /// Of a file, and not to be written to.
    fixed: bool,
}

/// Gives back the pages that hold nothing but what their file holds: code that ran once. What is needed again is read from the page
/// cache again. Meant for a process that is about to sleep.
///
/// # Errors
/// /proc can't be read; nothing is lost.
pub fn shed() -> io::Result<()> {
    let mut found = Vec::new();
    let mut current = None;
    for line in BufReader::new(File::open("/proc/self/smaps")?).lines() {
        let line = line?;
        if let Some(mapping) = mapping(&line) {
            current = Some(mapping);
        } else if line.split_ascii_whitespace().eq(["Anonymous:", "0", "kB"]) {
            // Pages that the loader has written to count as anonymous: not one of those is in it.
            found.extend(current.take().filter(|mapping| mapping.fixed));
        }
    }
    for mapping in found {
        give_back(&mapping);
    }
    Ok(())
}

/// The mapping whose first line this is.
fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (rights, inode) = (fields.next()?, fields.nth(2)?);
    Some(Mapping {
        start: usize::from_str_radix(start, 16).ok()?,
        end: usize::from_str_radix(end, 16).ok()?,
        fixed: inode != "0" && rights.starts_with('r') && rights.get(1..2) == Some("-"),
    })
}

#[expect(
    unsafe_code,
    reason = "the standard library does not advise the kernel"
)]
fn give_back(mapping: &Mapping) {
    // SAFETY: the mapping is of a file, can't be written to, and holds no page that was: whoever touches it next finds the same bytes,
    // as after any page that the kernel drops by itself.
    unsafe {
        libc::madvise(
            std::ptr::without_provenance_mut(mapping.start),
            mapping.end - mapping.start,
            libc::MADV_DONTNEED,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_file_holds_is_given_back() {
        let fixed = |line: &str| mapping(line).map(|mapping| mapping.fixed);
        let of = |rights: &str, inode: &str| {
            fixed(&format!("7f00-8f00 {rights} 00000000 08:01 {inode} /lib/x"))
        };
        assert_eq!(of("r-xp", "12"), Some(true));
        assert_eq!(of("r--p", "12"), Some(true));
        assert_eq!(of("rw-p", "12"), Some(false));
        assert_eq!(of("r-xp", "0"), Some(false));
        assert_eq!(of("---p", "12"), Some(false));
        assert_eq!(fixed("Anonymous:             0 kB"), None);
        assert_eq!(fixed("VmFlags: rd ex mr mw me"), None);
    }

    #[test]
    fn code_and_constants_are_there_afterwards() {
        let text = "a constant of this program";
        shed().unwrap();
        assert_eq!(text.len(), 26);
        assert_eq!(
            format!("{:?}", Some(text.to_uppercase())),
            "Some(\"A CONSTANT OF THIS PROGRAM\")"
        );
    }
}
