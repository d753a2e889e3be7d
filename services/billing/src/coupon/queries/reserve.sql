with taken as (
  update coupon c set times_redeemed = c.times_redeemed + 1, first_redeemed_at = coalesce(c.first_redeemed_at, $7),
    updated_at = $7
  where c.agency_id = $1 and c.id = $3 and c.state = 'active'
    and (c.max_redemptions is null or c.times_redeemed < c.max_redemptions)
    and (c.starts_at is null or c.starts_at <= $7) and (c.expires_at is null or c.expires_at > $7)
    and (c.currency is null or c.currency = $6)
    and (not exists (select from coupon_plan p where p.agency_id = $1 and p.coupon_id = $3)
      or exists (select from coupon_plan p where p.agency_id = $1 and p.coupon_id = $3 and p.plan_id = $5))
    and (not c.first_time_only or not exists (
      select from subscription s
      where s.tenant_id = $2 and s.id <> $4
        and s.status in ('trialing', 'active', 'past_due', 'unpaid', 'paused', 'canceled')))
    and (c.max_redemptions_per_client is null or c.max_redemptions_per_client > (
      select count(*) from coupon_redemption r
      where r.tenant_id = $2 and r.coupon_id = $3 and r.state <> 'released'))
  returning c.id
)
insert into coupon_redemption (agency_id, tenant_id, id, coupon_id, subscription_id, saga_id, currency, amount_minor,
                               discount_minor, created_at, updated_at)
select $1, $2, $8, taken.id, $4, $9, $6, $10, $11, $7, $7 from taken
