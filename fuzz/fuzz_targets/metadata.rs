//! A document that is understood is the same after it is written and read again, whoever published it.

#![no_main]

use isthmus::wire::metadata::{PrivateDocument, PublicDocument, Reading};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(Reading::Complete(document)) = PublicDocument::parse(input) {
        let written = document.to_json();
        let Ok(Reading::Complete(again)) = PublicDocument::parse(written.as_bytes()) else { panic!("{written}") };
        assert_eq!(again, document);
    }
    if let Ok(Reading::Complete(document)) = PrivateDocument::parse(input) {
        let written = document.to_json();
        let Ok(Reading::Complete(again)) = PrivateDocument::parse(written.as_bytes()) else { panic!("{written}") };
        assert_eq!(again, document);
    }
});
