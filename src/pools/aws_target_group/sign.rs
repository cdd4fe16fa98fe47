//! AWS Signature Version 4 for the one shape of request that is made: a form in the body of a POST to `/`. Pure.
//!
//! Written here since the crate for it brings an asynchronous runtime along; checked against what botocore signs.

use jiff::Timestamp;
use ring::{digest, hmac};

/// Who signs. Never shown: no `Debug`, no `Display`.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: String,
    /// With temporary credentials.
    pub(super) token: Option<String>,
}

impl Credentials {
    /// `text` without anything secret that may have come back in it.
    pub(super) fn hide(&self, text: &str) -> String {
        let secrets = [Some(&self.secret), self.token.as_ref(), Some(&self.id)];
        secrets
            .into_iter()
            .flatten()
            .filter(|secret| !secret.is_empty())
            .fold(text.to_owned(), |text, secret| {
                text.replace(secret, "[secret]")
            })
    }
}

/// What a request is signed for.
pub(super) struct Scope<'a> {
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// The value of the `Host` header.
    pub(super) host: &'a str,
}

/// The type of the body.
pub(super) const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The headers, beside `Host`, that make a POST of `body` to `/` count as `credentials`' own, at about `now`.
pub(super) fn headers(
    credentials: &Credentials,
    scope: &Scope<'_>,
    body: &[u8],
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = now.strftime("%Y%m%d").to_string();
    // In the order of their names, as the signature wants them.
    let mut signed = vec![
        ("content-type", FORM.to_owned()),
        ("host", scope.host.to_owned()),
        ("x-amz-date", time.clone()),
    ];
    if let Some(token) = &credentials.token {
        signed.push(("x-amz-security-token", token.clone()));
    }
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = signed
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let request = format!("POST\n/\n\n{lines}\n{names}\n{}", hash(body));
    let place = format!("{date}/{}/{}/aws4_request", scope.region, scope.service);
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{place}\n{}",
        hash(request.as_bytes())
    );
    let first = format!("AWS4{}", credentials.secret);
    let key = [&date, scope.region, scope.service, "aws4_request"]
        .into_iter()
        .fold(first.into_bytes(), |key, part| {
            hmac(&key, part.as_bytes()).as_ref().to_vec()
        });
    let signature = hex(hmac(&key, text.as_bytes()).as_ref());
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{place}, SignedHeaders={names}, Signature={signature}",
        credentials.id
    );
    signed.retain(|(name, _)| *name != "host");
    signed.push(("authorization", authorization));
    signed
}

fn hmac(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What botocore 1.44.5 makes of the same request.
    #[test]
    fn a_signature_is_that_of_awss_own_library() {
        let scope = Scope {
            region: "eu-central-1",
            service: "elasticloadbalancing",
            host: "elasticloadbalancing.eu-central-1.amazonaws.com",
        };
        let now: Timestamp = "2015-08-30T12:36:00Z".parse().unwrap();
        for (token, names, signature) in [
            (
                None,
                "content-type;host;x-amz-date",
                "4711e14853c6429b8c51fb88cccd078d5c30b4d00a30ecfa107f5a04580d1ba6",
            ),
            (
                Some("TOKEN/with+chars=="),
                "content-type;host;x-amz-date;x-amz-security-token",
                "f65bf71b4e08a0feedf47532a8373ec3aa539f0fc2599dc9fc0f92628c124d60",
            ),
        ] {
            let credentials = Credentials {
                id: "AKIDEXAMPLE".to_owned(),
                secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
                token: token.map(str::to_owned),
            };
            let body = b"Action=DescribeTargetHealth&Version=2015-12-01";
            let headers = headers(&credentials, &scope, body, now);
            assert_eq!(
                headers.last().unwrap(),
                &(
                    "authorization",
                    format!(
                        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-central-1/elasticloadbalancing/aws4_request, \
                         SignedHeaders={names}, Signature={signature}"
                    )
                )
            );
            assert!(headers.contains(&("x-amz-date", "20150830T123600Z".to_owned())));
            assert!(!headers.iter().any(|(name, _)| *name == "host"));
        }
    }

    #[test]
    fn what_is_secret_is_cut_out_of_any_text() {
        let credentials = Credentials {
            id: "AKID".to_owned(),
            secret: "s3cr3t".to_owned(),
            token: Some(String::new()),
        };
        assert_eq!(credentials.hide("AKID s3cr3t x"), "[secret] [secret] x");
    }
}
