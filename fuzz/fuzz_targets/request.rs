//! A request that is understood has one spelling, which is understood as the same request.

#![no_main]

use http::Method;
use isthmus::roles::api::request::ApiRequest;
use libfuzzer_sys::fuzz_target;

const MOST: usize = 2048;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let (path, query) = text.split_once('?').map_or((&*text, None), |(path, query)| (path, Some(query)));
    let Ok(request) = ApiRequest::parse(&Method::GET, path, query, MOST) else { return };
    assert!(ApiRequest::parse(&Method::POST, path, query, MOST).is_err());
    let written = request.path_and_query(1800);
    assert!(written.bytes().all(|byte| byte.is_ascii_graphic()), "{written}");
    assert!(!written.contains("//") && !written.contains("/./") && !written.contains("/../"), "{written}");
    let (path, query) = written.split_once('?').map_or((&*written, None), |(path, query)| (path, Some(query)));
    let again = ApiRequest::parse(&Method::GET, path, query, MOST).unwrap_or_else(|error| panic!("{written}: {error}"));
    assert_eq!((again.verb, &again.target), (request.verb, &request.target), "{written}");
    assert_eq!(again.path_and_query(1800), written, "a second time it is something else");
});
