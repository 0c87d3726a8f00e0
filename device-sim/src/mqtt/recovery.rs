//! What a broken connection leaves behind, put in order. Generic over the two halves of the client library.

use std::collections::VecDeque;

/// A look at a request that is a PUBLISH or a PUBREL.
pub(super) struct PublishMut<'a> {
    /// Its Packet Identifier; 0 if it was never sent or has QoS 0.
    pub id: &'a mut u16,
    /// The DUP flag of a PUBLISH.
    pub dup: Option<&'a mut bool>,
}

/// Leaves in `pending` what was in flight, in the order of sending and with DUP set, and moves what was never sent to the
/// end of `unsent`. Other requests (SUBSCRIBE ...) are dropped: whoever made them sees the next connection and decides anew.
pub(super) fn sort_out<R>(
    pending: &mut VecDeque<R>,
    unsent: &mut VecDeque<R>,
    publish: impl Fn(&mut R) -> Option<PublishMut<'_>>,
    order_of: impl Fn(u16) -> u32,
) {
    let mut sent = Vec::with_capacity(pending.len());
    for mut request in pending.drain(..) {
        let Some(PublishMut { id, dup }) = publish(&mut request) else { continue };
        match *id {
            0 => unsent.push_back(request),
            id => {
                if let Some(dup) = dup {
                    *dup = true;
                }
                sent.push((order_of(id), request));
            }
        }
    }
    sent.sort_by_key(|(order, _)| *order);
    pending.extend(sent.into_iter().map(|(_, request)| request));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    enum Request {
        Publish { id: u16, dup: bool, name: char },
        Subscribe,
    }

    fn publish(request: &mut Request) -> Option<PublishMut<'_>> {
        match request {
            Request::Publish { id, dup, .. } => Some(PublishMut { id, dup: Some(dup) }),
            Request::Subscribe => None,
        }
    }

    #[test]
    fn what_was_sent_goes_again_in_order_and_what_was_not_is_kept_apart() {
        let request = |id, name| Request::Publish { id, dup: false, name };
        // Packet Identifiers wrapped at 4: c and d were sent before a and b.
        let mut pending = VecDeque::from([
            request(1, 'a'),
            request(2, 'b'),
            request(3, 'c'),
            Request::Subscribe,
            request(4, 'd'),
        ]);
        pending.extend([request(0, 'x'), request(0, 'y')]);
        let mut unsent = VecDeque::from([request(0, 'w')]);
        sort_out(&mut pending, &mut unsent, publish, |id| u32::from((id + 1) % 4));
        let names = |requests: &VecDeque<Request>| -> Vec<(char, bool)> {
            let look = |request: &Request| match request {
                Request::Publish { name, dup, .. } => (*name, *dup),
                Request::Subscribe => panic!("subscribe kept"),
            };
            requests.iter().map(look).collect()
        };
        assert_eq!(names(&pending), [('c', true), ('d', true), ('a', true), ('b', true)]);
        assert_eq!(names(&unsent), [('w', false), ('x', false), ('y', false)]);
    }
}
