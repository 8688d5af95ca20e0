//! The resolver as the engine sees it.

use std::sync::Arc;

use certdir_certificate::UnixTime;
use certdir_zones::{Address, DomainName, Name, RecordType};

use super::{Awaited, Upstream};
use crate::dns::Said;
use crate::resolver::Inner;
use crate::verdict::Verdict;

impl Upstream for Inner {
    fn now(&self) -> UnixTime {
        (self.clock)()
    }

    fn resolve<'a>(&'a self, address: &'a Address) -> Awaited<'a, Verdict> {
        Box::pin(Inner::resolve(self, address))
    }

    fn refresh<'a>(&'a self, address: &'a Address) -> Awaited<'a, Verdict> {
        Box::pin(Inner::refresh(self, address))
    }

    fn held(&self) -> Vec<Address> {
        self.verdicts.keys((self.clock)())
    }

    fn forget_domain(&self, domain: &DomainName) {
        Inner::forget_domain(self, domain);
    }

    fn rdata<'a>(&'a self, name: &'a Name, record_type: RecordType) -> Awaited<'a, Option<Vec<Vec<u8>>>> {
        Box::pin(async move {
            match self.dns.look_up(&Arc::from("watch"), name, record_type, (self.clock)()).await.said {
                Said::Records { rdata, .. } => Some(rdata),
                Said::NotSigned { unproven: Ok(unproven), .. } => Some(unproven.rdata),
                Said::Absent { .. } => Some(Vec::new()),
                Said::NotSigned { unproven: Err(_), .. } | Said::Failed(_) => None,
            }
        })
    }
}
