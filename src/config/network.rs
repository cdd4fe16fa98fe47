//! Networks in CIDR notation, and what they are named for: traffic that does not count.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A network in CIDR notation. A bare address is the network of that one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its address; bits beyond the prefix are zero.
    pub address: IpAddr,
    /// Bits that count, 0–32 or 0–128.
    pub prefix: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a network; write it like \"10.0.0.0/8\", \"fd00::/8\" or \"10.1.2.3\""
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => bits,
        };
        if prefix > bits {
            return Err(format!("`{text}` has a prefix longer than {bits} bits"));
        }
        let network = Self {
            address: masked(address, prefix),
            prefix,
        };
        if network.address != address {
            return Err(format!(
                "`{text}` has bits beyond its prefix; did you mean `{network}`?"
            ));
        }
        Ok(network)
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// Traffic that does not count as arriving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignore {
    /// That of these peers.
    Peers(Network),
    /// That to this port of ours; not 0.
    Port(u16),
}

// By hand: an error of `#[serde(untagged)]` would be told at the line of the whole list instead of its item's.
impl<'de> Deserialize<'de> for Ignore {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Item)
    }
}

struct Item;

impl Visitor<'_> for Item {
    type Value = Ignore;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a network like \"10.0.0.0/8\" or a port like 9100")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Ignore, E> {
        if text.parse::<u16>().is_ok() {
            return Err(E::custom(format!(
                "`{text}` is a port; write it without quotes"
            )));
        }
        text.parse().map(Ignore::Peers).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Ignore, E> {
        match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(Ignore::Port(port)),
            _ => Err(E::custom(format!(
                "{number} is no port; those are 1 to 65535"
            ))),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Ignore, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl Serialize for Ignore {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Peers(network) => to.collect_str(network),
            Self::Port(port) => to.serialize_u16(*port),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_written() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::/8", "fd00::/8"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), expected);
        }
        for (text, said) in [
            ("10.0.0.1/8", "did you mean `10.0.0.0/8`"),
            ("10.0.0.0/33", "longer than 32 bits"),
            ("10.0.0/8", "is not a network"),
            ("10.0.0.0/", "is not a network"),
            ("10.0.0.0/-1", "is not a network"),
            ("host", "is not a network"),
            ("", "is not a network"),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
