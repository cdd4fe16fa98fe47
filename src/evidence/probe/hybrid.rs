//! Whether a server takes X25519MLKEM768, the post-quantum key exchange that browsers offer: its handshake is 1 088 bytes longer with it.

use std::io::Read as _;
use std::sync::Arc;

use rustls::crypto::ring::{default_provider, kx_group::X25519};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup};
use rustls::version::TLS13;
use rustls::{ClientConfig, NamedGroup};

use super::door::Door;
use super::shake::{self, ALERT, PATIENCE};
use crate::world::Deadline;

/// Bytes of an ML-KEM-768 encapsulation key (FIPS 203, table 3).
const ENCAPSULATION_KEY: usize = 1184;

/// Offers nothing else. Only a refusal says no: whoever answers otherwise, or not in time, may take it.
pub(super) fn is_taken(door: &Door, deadline: Deadline) -> bool {
    let provider = Arc::new(CryptoProvider {
        kx_groups: vec![&Hybrid],
        ..default_provider()
    });
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map(|builder| shake::unverified(builder, provider).with_no_client_auth());
    let Ok((mut stream, mut connection)) = config
        .map_err(|_| ())
        .and_then(|config| shake::connect(door, Arc::new(config), deadline).ok_or(()))
    else {
        return true;
    };
    while connection.wants_write() {
        if connection.write_tls(&mut stream).is_err() {
            return true;
        }
    }
    let left = deadline.within(PATIENCE).left();
    let mut kind = [0];
    let refused = !left.is_zero()
        && stream.set_read_timeout(Some(left)).is_ok()
        && stream.read_exact(&mut kind).is_ok()
        && kind == [ALERT];
    !refused
}

/// The key exchange, as far as a client's hello.
#[derive(Debug)]
struct Hybrid;

impl SupportedKxGroup for Hybrid {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        // A server that takes it checks both halves: coefficients below 3329, of which zero is one, and a point of full order.
        let mut key = vec![0; ENCAPSULATION_KEY];
        key.extend_from_slice(X25519.start()?.pub_key());
        Ok(Box::new(Share(key)))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

struct Share(Vec<u8>);

impl ActiveKeyExchange for Share {
    fn complete(self: Box<Self>, _: &[u8]) -> Result<SharedSecret, rustls::Error> {
        Err(rustls::Error::General("the first byte was all".to_owned()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.0
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}
