//! Acknowledged sequences on their way into the log.

/// Acknowledged sequences on their way into the log: ranges, merged as they come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckRuns {
    runs: Vec<(u64, u32)>,
}

impl AckRuns {
    /// Adds one sequence.
    pub fn push(&mut self, sequence: u64) {
        if let Some((first, len)) = self.runs.last_mut()
            && *first + u64::from(*len) == sequence
            && *len < u32::MAX
        {
            *len += 1;
        } else {
            self.runs.push((sequence, 1));
        }
    }

    /// Whether there is nothing to log.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Forgets what was added; the room is kept.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// The form in the log: 12 bytes for each range, first sequence (u64) and length (u32), little-endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (first, len) in &self.runs {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
    }

    /// The ranges of an encoded list; a rest that is no whole range is passed over.
    pub fn decode(bytes: &[u8]) -> impl Iterator<Item = (u64, u32)> + '_ {
        bytes.as_chunks::<12>().0.iter().map(|chunk| {
            let [a, b, c, d, e, f, g, h, len @ ..] = *chunk;
            (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes(len))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_runs_merge_and_survive_the_log() {
        let mut runs = AckRuns::default();
        for sequence in [5, 6, 7, 2, 9, 10] {
            runs.push(sequence);
        }
        let mut bytes = Vec::new();
        runs.encode(&mut bytes);
        assert_eq!(AckRuns::decode(&bytes).collect::<Vec<_>>(), [(5, 3), (2, 1), (9, 2)]);
    }
}
