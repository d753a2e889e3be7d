select c.id as "id: CouponId", c.code, c.percent_off_bp, c.amount_off_minor, c.currency, c.duration, c.duration_in_months,
  c.max_redemptions, c.max_redemptions_per_client, c.first_time_only, c.starts_at, c.expires_at, c.state, c.deactivated_at,
  c.times_redeemed, c.revision, c.created_at,
  array(select p.plan_id from coupon_plan p
        where p.agency_id = c.agency_id and p.coupon_id = c.id order by p.plan_id) as "plans!: Vec<PlanId>"
from coupon c
where c.agency_id = $1 and ($2::text is null or c.code = $2) and ($3::uuid is null or c.id = $3)
  and ($4::text is null or c.state = $4) and ($5::uuid is null or c.id < $5)
order by c.id desc
limit $6
