//! Where messages of groups go that their members leave.

use super::{Leaving, Message, Plain, Sessions, Wrong, ensure};
use std::collections::BTreeSet;

impl Plain {
    /// Finds out where messages have gone that may be passed on.
    pub(super) fn settle(
        &mut self,
        mut leaving: Vec<Leaving>,
        seen: &Sessions,
        relaxed: bool,
    ) -> Result<(), Wrong> {
        for (client, shown) in seen {
            let Some(session) = self.sessions.get_mut(client) else { continue };
            for (sequence, message) in shown.pending.range(session.next..) {
                let is_it = |leaving: &Leaving| {
                    let (one, other) = (&leaving.message, message);
                    one.offset == other.offset && one.group == other.group && leaving.from.0 != *client
                };
                let Some(at) = leaving.iter().position(is_it) else {
                    return Err(format!("{client} has {message:?} as {sequence}, which nobody gave it"));
                };
                leaving.remove(at);
                ensure!(*sequence == session.next, "{client} has left out {}", session.next);
                session.pending.insert(*sequence, message.clone());
                session.next += 1;
            }
        }
        // A message that went has left its place, or is not found twice: the comparison of all sessions tells.
        for (client, session) in &mut self.sessions {
            let Some(shown) = seen.get(client) else { continue };
            let stays = |sequence: &u64, message: &Message| {
                let has_moved = message.group.is_some()
                    && !leaving.iter().any(|leaving| leaving.from == (client.clone(), *sequence))
                    && !shown.pending.contains_key(sequence);
                !has_moved
            };
            let gone: Vec<u64> = session
                .pending
                .iter()
                .filter(|(at, message)| !stays(at, message))
                .map(|(at, _)| *at)
                .collect();
            for at in gone {
                let message = session.pending.remove(&at);
                let is_elsewhere = message.as_ref().is_some_and(|gone| {
                    let others = seen.iter().filter(|(other, _)| *other != client);
                    others
                        .flat_map(|(_, other)| other.pending.values())
                        .any(|message| message.offset == gone.offset && message.group == gone.group)
                });
                ensure!(is_elsewhere, "{client} has lost {message:?}, and nobody has it");
            }
        }
        let mut held = BTreeSet::new();
        for message in self.sessions.values().flat_map(|session| session.pending.values()) {
            let is_twice = message.group.is_some() && !held.insert((message.offset, message.group.clone()));
            ensure!(!is_twice, "two members have {message:?}");
        }
        for left in &leaving {
            let Some(group) = &left.message.group else { continue };
            let others = self.members(group, Some(&left.from.0));
            let anybody_connected = others.iter().any(|client| self.sessions[client].connected);
            let must_go =
                (left.has_ended || anybody_connected) && others.iter().any(|client| self.has_room(client));
            ensure!(relaxed || !must_go, "nobody has taken over {:?} from {:?}", left.message, left.from);
        }
        Ok(())
    }
}
