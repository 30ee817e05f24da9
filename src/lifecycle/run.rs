//! What the pure parts say, done to a bucket: asked for, changed, and looked at again.
//!
//! Sends one text or none; nothing is ever half done. Prints only where it is told to.

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::check::{Bucket, Finding, Weight, carries_uploads, check, check_refresh, unsupported};
use super::merge::{self, Plan, Unplanned, plan};
use super::read::Unreadable;
use super::wanted::{Rule, Unfit, is_uploads, ours, wanted};
use crate::config::{Expiry, Fraction};
use crate::store::lifecycle::{Lifecycle, Place, Replaced, Rules};
use crate::store::{self, Kind, Store};

/// How long a bucket may go on showing its old rules: AWS says that a change takes a while.
const PATIENCE: Duration = Duration::from_secs(30);
/// First pause before it is looked at again; it doubles.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a bucket's rules were not changed, or not asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory.
    #[error(
        "a directory has no rules: name a bucket, --store s3://BUCKET[/PREFIX]; `larder sweep` keeps a directory small"
    )]
    Directory,
    /// A time that is none of days.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The server knows no rules.
    #[error("the server of this bucket carries no rules ({0}): `larder sweep` removes what is old")]
    Unsupported(String),
    /// The server does not take the new rules.
    #[error("the server does not take these rules, and nothing was changed: {0}")]
    Refused(String),
    /// Somebody else changed the rules between the look at them and the change.
    #[error("somebody else changed the bucket's rules just now, and nothing was changed: run it again")]
    Raced,
    /// Somebody else changed them behind our change.
    #[error(
        "somebody else changed the bucket's rules just now, over this change or beneath it: look at them, and run it again"
    )]
    Overtaken,
    /// The server took them and shows others.
    #[error("the server took the rules, and does not have these of them: {0}")]
    Lost(String),
    /// Still the old ones.
    #[error("the server took the rules, and after {} still shows the old ones: check again later", PATIENCE.as_secs())]
    Unseen,
    /// What the bucket has cannot be changed.
    #[error("nothing was changed")]
    Unplanned(#[from] Unplanned),
    /// What the bucket shows behind the change cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Standard output.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

/// What a bucket has.
struct Current {
    place: Place,
    server: Option<String>,
    now: Option<Lifecycle>,
}

impl Current {
    async fn of(store: &Store) -> Result<Self, Error> {
        let place = store.place().ok_or(Error::Directory)?;
        match store.lifecycle().await? {
            Rules::Never => Err(Error::Directory),
            Rules::Unsupported { why, .. } => Err(Error::Unsupported(why)),
            Rules::Are { server, now } => Ok(Self { place, server, now }),
        }
    }

    fn text(&self) -> Option<&str> {
        self.now.as_ref().map(|now| now.text.as_str())
    }
}

/// Gives the bucket the rules that the times want, or says what it would do.
pub async fn apply(store: &Store, expiry: &Expiry, dry_run: bool, out: &mut impl Write) -> Result<(), Error> {
    let place = store.place().ok_or(Error::Directory)?;
    let wanted = wanted(expiry, &place.root)?;
    let current = Current::of(store).await?;
    let mut change = Change { store, names: ours(&place.root), current, wanted, dry_run };
    if !carries_uploads(change.current.server.as_deref()) {
        change.leave_uploads_out(out)?;
    }
    match change.carry_out(out).await {
        // A server that we do not know, and that takes no rule for uploads, refuses all of them.
        Err(Error::Refused(why)) if change.has_uploads() && !change.shows_uploads() => {
            change.leave_uploads_out(out)?;
            let retried = change.carry_out(out).await;
            retried.map_err(|error| if let Error::Refused(_) = error { Error::Refused(why) } else { error })
        }
        ended => ended,
    }
}

/// Takes our rules out of the bucket, or says what it would do.
pub async fn remove(store: &Store, dry_run: bool, out: &mut impl Write) -> Result<(), Error> {
    let current = Current::of(store).await?;
    let names = ours(&current.place.root);
    Change { store, names, current, wanted: Vec::new(), dry_run }.carry_out(out).await
}

/// Holds the bucket's rules against the gateway's flags.
pub async fn examine(
    store: &Store,
    expiry: &Expiry,
    refresh: Option<Fraction>,
) -> Result<Vec<Finding>, Error> {
    let current = match Current::of(store).await {
        Err(Error::Unsupported(why)) => {
            let place = store.place().ok_or(Error::Directory)?;
            return Ok(vec![unsupported(&place, expiry, &why)]);
        }
        current => current?,
    };
    let (versioned, unknown) = match store.keeps_versions().await {
        Ok(versioned) => (versioned, None),
        Err(error) if error.kind == Kind::Denied => (true, Some(unasked(&error))),
        Err(error) => return Err(error.into()),
    };
    let bucket =
        Bucket { place: &current.place, rules: current.text(), versioned, server: current.server.as_deref() };
    let mut all = check(expiry, &bucket);
    all.extend(check_refresh(expiry, refresh));
    all.extend(unknown);
    Ok(all)
}

fn unasked(error: &store::Error) -> Finding {
    Finding {
        id: "versioning-unknown",
        weight: Weight::Note,
        rule: None,
        what: format!("whether the bucket keeps versions cannot be asked: {}", error.chain()),
        means: "it is taken for one that does".to_owned(),
        mend: "grant s3:GetBucketVersioning".to_owned(),
    }
}

/// A change under way.
struct Change<'s> {
    store: &'s Store,
    names: Vec<String>,
    current: Current,
    wanted: Vec<Rule>,
    dry_run: bool,
}

impl Change<'_> {
    fn has_uploads(&self) -> bool {
        self.wanted.iter().any(|rule| is_uploads(&rule.id, &self.current.place.root))
    }

    /// Whether the bucket has such rules: then it is not for them that it refuses.
    fn shows_uploads(&self) -> bool {
        let root = &self.current.place.root;
        let mut ids = self.wanted.iter().map(|rule| &rule.id).filter(|id| is_uploads(id, root));
        self.current.text().is_some_and(|text| ids.any(|id| text.contains(id.as_str())))
    }

    fn leave_uploads_out(&mut self, out: &mut impl Write) -> io::Result<()> {
        let root = &self.current.place.root;
        let (uploads, rest) = self.wanted.drain(..).partition(|rule| is_uploads(&rule.id, root));
        self.wanted = rest;
        let uploads: Vec<Rule> = uploads;
        uploads
            .iter()
            .try_for_each(|rule| writeln!(out, "! {rule}: this server carries no such rule; left out"))
    }

    async fn carry_out(&self, out: &mut impl Write) -> Result<(), Error> {
        let plan = plan(self.current.text(), &self.wanted, &self.names)?;
        plan.lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        let others = plan.others;
        if !plan.changes() {
            writeln!(out, "{}: nothing to change; {others} rules are others'", self.current.place)?;
        } else if self.dry_run {
            writeln!(
                out,
                "{}: nothing was changed; {others} rules of others would stay",
                self.current.place
            )?;
        } else {
            self.send(&plan).await?;
            writeln!(out, "{}: done; {others} rules of others stayed as they were", self.current.place)?;
        }
        Ok(out.flush()?)
    }

    async fn send(&self, plan: &Plan) -> Result<(), Error> {
        let now = self.current.now.as_ref();
        let minimum = now.and_then(|now| now.minimum.clone());
        let new = plan.text.clone().map(|text| Lifecycle { text, minimum });
        match self.store.replace_lifecycle(now, new.as_ref()).await? {
            Replaced::Done => self.seen(new.as_ref()).await,
            Replaced::Others => Err(Error::Raced),
            Replaced::Refused(why) => Err(Error::Refused(why)),
        }
    }

    /// Waits until the bucket shows what was sent.
    async fn seen(&self, new: Option<&Lifecycle>) -> Result<(), Error> {
        let (until, mut pause) = (Instant::now() + PATIENCE, PAUSE);
        loop {
            let shown = Current::of(self.store).await?.now;
            let sent = new.map(|new| new.text.as_str());
            let kept =
                merge::kept(shown.as_ref().map(|now| now.text.as_str()), sent, &self.wanted, &self.names)?;
            let minimum = |of: Option<&Lifecycle>| of.and_then(|of| of.minimum.clone());
            // Where there is none left there is nothing to keep it with.
            let held = new.is_none() || minimum(new).is_none() || minimum(shown.as_ref()) == minimum(new);
            match kept {
                merge::Kept::All if held => return Ok(()),
                // Not yet the new ones.
                _ if shown == self.current.now => {}
                merge::Kept::Without(lost) => return Err(Error::Lost(lost.join(", "))),
                merge::Kept::All | merge::Kept::Not => return Err(Error::Overtaken),
            }
            if Instant::now() >= until {
                return Err(Error::Unseen);
            }
            sleep(pause).await;
            pause *= 2;
        }
    }
}
