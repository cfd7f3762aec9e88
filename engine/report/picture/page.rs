//! The page around a picture: one file, no requests. Its style and script are allowed by their digests alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::types::name::Digest;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str =
    concat!(include_str!("messages.js"), include_str!("map.js"), include_str!("matrix.js"), include_str!("page.js"),);

/// The page of a picture's JSON.
pub(super) fn html(json: &str, live: bool) -> String {
    let connect = if live { "connect-src 'self'" } else { "connect-src 'none'" };
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; img-src data:; {connect}; base-uri 'none'; form-action 'none'",
        source(STYLE),
        source(SCRIPT),
    );
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + json.len());
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let Some((place, after)) = after.split_once("}}") else { break };
        match place {
            "policy" => page.push_str(&policy),
            "style" => page.push_str(STYLE),
            "script" => page.push_str(SCRIPT),
            "live" if live => page.push_str(" data-live"),
            // no text of a cluster can end the element that holds it
            "picture" => page.push_str(&json.replace('<', "\\u003c")),
            _ => {}
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

/// A source expression of the Content Security Policy, level 3.
fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Digest::of(text.as_bytes()).bytes()))
}
