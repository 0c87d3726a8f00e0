//! Groups of Shared Subscriptions: who is in which, and which want a topic.

use super::{FILTER_LEVELS_MAX, Grant, Router, SubscribeError};
use gateway_protocol::TopicFilter;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A group that wants a topic, with its members in the order of their names.
#[derive(Clone, Debug)]
pub struct GroupMatch<S> {
    /// The whole filter, `$share/<name>/<filter>`: what names the group.
    pub group: Arc<str>,
    /// Its members.
    pub members: Vec<(S, Grant)>,
}

/// Of one table and epoch: there a name stands for one set of members.
impl<S> PartialEq for GroupMatch<S> {
    fn eq(&self, other: &Self) -> bool {
        self.group == other.group
    }
}

#[derive(Debug)]
pub(super) struct Groups<S> {
    /// The groups' filters; a group's key is its number.
    filters: Option<Box<Router<()>>>,
    groups: HashMap<u64, Group<S>>,
    numbers: HashMap<Arc<str>, u64>,
    next: u64,
}

#[derive(Debug)]
struct Group<S> {
    name: Arc<str>,
    members: BTreeMap<Box<str>, (S, Grant)>,
}

impl<S> Default for Groups<S> {
    fn default() -> Self {
        Self { filters: None, groups: HashMap::new(), numbers: HashMap::new(), next: 0 }
    }
}

impl<S: Clone> Groups<S> {
    /// Adds a member to the group named `name`, or replaces its grant. True if it is new in the group.
    pub(super) fn join(
        &mut self,
        name: &str,
        filter: TopicFilter<'_>,
        member: &str,
        subscriber: S,
        grant: Grant,
    ) -> Result<bool, SubscribeError> {
        if filter.levels().count() > FILTER_LEVELS_MAX {
            return Err(SubscribeError::TooDeep);
        }
        let number = match self.numbers.get(name) {
            Some(number) => *number,
            None => self.found(name, filter)?,
        };
        let Some(group) = self.groups.get_mut(&number) else { return Ok(false) };
        Ok(group.members.insert(member.into(), (subscriber, grant)).is_none())
    }

    fn found(&mut self, name: &str, filter: TopicFilter<'_>) -> Result<u64, SubscribeError> {
        let number = self.next;
        let any = Grant {
            qos: gateway_protocol::QoS::ExactlyOnce,
            no_local: false,
            retain_as_published: false,
            subscription_id: 0,
        };
        self.filters.get_or_insert_default().subscribe(number, (), filter, any)?;
        self.next += 1;
        let name: Arc<str> = name.into();
        self.numbers.insert(name.clone(), number);
        self.groups.insert(number, Group { name, members: BTreeMap::new() });
        Ok(number)
    }

    /// Removes a member; a group without members is gone. False if it was not in the group.
    pub(super) fn leave(&mut self, name: &str, filter: TopicFilter<'_>, member: &str) -> bool {
        let Some(number) = self.numbers.get(name).copied() else { return false };
        let Some(group) = self.groups.get_mut(&number) else { return false };
        let was_member = group.members.remove(member).is_some();
        if group.members.is_empty() {
            self.groups.remove(&number);
            self.numbers.remove(name);
            if let Some(filters) = &mut self.filters {
                filters.unsubscribe(number, filter);
                if filters.is_empty() {
                    self.filters = None;
                }
            }
        }
        was_member
    }

    /// In the order of their names: their numbers follow from the order in which they were founded, and that is another one in a table
    /// that was restored.
    pub(super) fn matches(&self, topic: &str) -> Vec<GroupMatch<S>> {
        let Some(filters) = &self.filters else { return Vec::new() };
        let groups = filters.matches(topic).into_iter().filter_map(|found| self.groups.get(&found.id));
        let mut groups: Vec<&Group<S>> = groups.collect();
        groups.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        groups
            .into_iter()
            .map(|group| GroupMatch {
                group: group.name.clone(),
                members: group.members.values().cloned().collect(),
            })
            .collect()
    }

    /// Whether any group wants `topic`.
    pub(super) fn wants(&self, topic: &str) -> bool {
        self.filters.as_ref().is_some_and(|filters| filters.wants(topic))
    }

    pub(super) fn members(&self, name: &str) -> Vec<(S, Grant)> {
        let group = self.numbers.get(name).and_then(|number| self.groups.get(number));
        group.map(|group| group.members.values().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_protocol::QoS;

    fn grant(qos: QoS) -> Grant {
        Grant { qos, no_local: false, retain_as_published: false, subscription_id: 0 }
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).unwrap()
    }

    #[test]
    fn a_group_is_one_filter_under_one_name_and_ends_with_its_last_member() {
        let mut router: Router<u8> = Router::default();
        let mut join = |name: &str, member: &str, subscriber: u8| {
            let inner = name.splitn(3, '/').nth(2).unwrap();
            router.join(name, filter(inner), member, subscriber, grant(QoS::AtLeastOnce)).unwrap()
        };
        assert!(join("$share/g/a/+", "one", 1));
        assert!(join("$share/g/a/+", "two", 2));
        assert!(!join("$share/g/a/+", "two", 3), "the same member again");
        assert!(join("$share/h/a/+", "one", 1));
        assert!(join("$share/g/#", "one", 1));
        let members = |router: &Router<u8>, topic: &str| -> Vec<(String, Vec<u8>)> {
            let groups = router.group_matches(topic).into_iter();
            groups
                .map(|found| (found.group.to_string(), found.members.iter().map(|member| member.0).collect()))
                .collect()
        };
        assert_eq!(
            members(&router, "a/b"),
            [
                ("$share/g/#".to_owned(), vec![1]),
                ("$share/g/a/+".to_owned(), vec![1, 3]),
                ("$share/h/a/+".to_owned(), vec![1]),
            ]
        );
        assert!(router.leave("$share/g/a/+", filter("a/+"), "one"));
        assert!(!router.leave("$share/g/a/+", filter("a/+"), "one"));
        assert!(router.leave("$share/g/a/+", filter("a/+"), "two"));
        assert!(router.leave("$share/h/a/+", filter("a/+"), "one"));
        assert_eq!(members(&router, "a/b").len(), 1);
        assert!(router.wants("a/b"));
        assert!(router.leave("$share/g/#", filter("#"), "one"));
        assert!(!router.wants("a/b"));
        assert!(router.groups.filters.is_none() && router.groups.numbers.is_empty());
    }
}
