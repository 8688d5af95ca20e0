//! One question in wire form, and whether something answers it.

use hickory_resolver::proto::rr::{Name, RecordType};

/// Advertised UDP payload (RFC 9715 section 3.1; DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1_232;

/// Octets of a message's header.
const HEADER: usize = 12;

/// Class IN.
const IN: u16 = 1;

/// RD, for recursive servers; authoritative ones do not mind.
const RECURSION_DESIRED: u8 = 0x01;

/// AD: its meaning is understood here (RFC 6840 section 5.7). CD stays off: a validating server may keep what it knows to
/// be bogus to itself, and says so.
const AUTHENTIC_DATA: u8 = 0x20;

/// Type of the OPT record, and the code of its padding option (RFC 7830 section 3).
const OPT: u16 = 41;
const PADDING: u16 = 12;

/// The octets of which a padded question is a multiple (RFC 8467 section 4.1).
const BLOCK: usize = 128;

/// A question with an OPT record that has DO set. `padded`: for an encrypted connection.
pub(crate) fn wire(id: u16, name: &Name, record_type: RecordType, padded: bool) -> Vec<u8> {
    let mut octets = Vec::with_capacity(BLOCK);
    octets.extend(id.to_be_bytes());
    octets.extend([RECURSION_DESIRED, AUTHENTIC_DATA]);
    // One question, no answer, no authority, one additional record.
    octets.extend([0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name {
        octets.push(u8::try_from(label.len()).unwrap_or_default());
        octets.extend(label);
    }
    octets.push(0);
    octets.extend(u16::from(record_type).to_be_bytes());
    octets.extend(IN.to_be_bytes());
    // RFC 6891 section 6.1.2: root, OPT, payload, extended code and version 0, DO.
    octets.push(0);
    octets.extend(OPT.to_be_bytes());
    octets.extend(UDP_PAYLOAD.to_be_bytes());
    octets.extend([0, 0, 0x80, 0]);
    let padding = if padded { (octets.len() + 6).next_multiple_of(BLOCK) - octets.len() - 6 } else { 0 };
    if padded {
        let length = u16::try_from(padding).unwrap_or_default();
        octets.extend((length + 4).to_be_bytes());
        octets.extend(PADDING.to_be_bytes());
        octets.extend(length.to_be_bytes());
        octets.resize(octets.len() + padding, 0);
    } else {
        octets.extend([0, 0]);
    }
    octets
}

/// True when a message is a response to a question: its id, and its question in whatever case (RFC 5452 section 9.1). A server
/// that cannot read a question may leave it out of its error.
pub(crate) fn answers(question: &[u8], answer: &[u8]) -> bool {
    let (Some(head), Some(asked)) = (answer.first_chunk::<HEADER>(), question_of(question)) else {
        return false;
    };
    let [id0, id1, flags0, flags1, count0, count1, ..] = *head;
    if question.get(..2) != Some(&[id0, id1]) || flags0 & 0x80 == 0 {
        return false;
    }
    if [count0, count1] == [0, 0] {
        return answer.len() == HEADER && flags1 & 0x0f != 0;
    }
    [count0, count1] == [0, 1] && question_of(answer).is_some_and(|same| same.eq_ignore_ascii_case(asked))
}

/// The octets of the first question: name, type and class. Names in questions are not compressed.
fn question_of(message: &[u8]) -> Option<&[u8]> {
    let body = message.get(HEADER..)?;
    let mut end = 0;
    loop {
        match *body.get(end)? {
            0 => return body.get(..end + 5),
            length @ 1..=63 => end += usize::from(length) + 1,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::op::Message;

    fn question(padded: bool) -> Vec<u8> {
        wire(0x1234, &Name::from_ascii("Alice.example.org.").unwrap(), RecordType::SMIMEA, padded)
    }

    #[test]
    fn a_question_is_what_it_says() {
        for padded in [false, true] {
            let octets = question(padded);
            let message = Message::from_vec(&octets).unwrap();
            assert_eq!((message.id, message.queries.len()), (0x1234, 1));
            assert_eq!(message.queries[0].name().to_string(), "Alice.example.org.");
            assert_eq!(message.queries[0].query_type(), RecordType::SMIMEA);
            assert!(message.recursion_desired && message.authentic_data && !message.checking_disabled);
            let edns = message.edns.unwrap();
            assert!(edns.flags().dnssec_ok);
            assert_eq!(edns.max_payload(), 1_232);
            assert_eq!(padded, octets.len() == 128);
        }
    }

    #[test]
    fn what_answers_it_and_what_does_not() {
        let asked = question(false);
        let response = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut octets = asked.clone();
            octets[2] |= 0x80;
            change(&mut octets);
            answers(&asked, &octets)
        };
        assert!(response(&|_| {}));
        // Another case in the name.
        assert!(response(&|o| o[13] = b'a'));
        assert!(!response(&|o| o[0] ^= 1));
        assert!(!response(&|o| o[2] &= 0x7f));
        assert!(!response(&|o| o[13] = b'B'));
        assert!(!response(&|o| o[5] = 2));
        assert!(!response(&|o| o.truncate(20)));
        // An error without the question.
        let bare = |rcode: u8| {
            response(&|o| {
                o.truncate(12);
                o[3] = rcode;
                o[5] = 0;
            })
        };
        assert!(bare(1) && !bare(0));
        assert!(!answers(&asked, &[]));
    }
}
