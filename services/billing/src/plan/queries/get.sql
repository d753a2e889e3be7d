select p.id as "id: PlanId", p.state, p.revision, v.version, v.sold_at is not null as "sold!", v.name, v.trial_days,
  v.features, p.created_at, v.created_at as version_created_at,
  (select coalesce(jsonb_agg(jsonb_build_object('currency', r.currency, 'interval', r.interval,
                                                'amount_minor', r.amount_minor) order by r.position), '[]')
   from plan_price r
   where r.agency_id = v.agency_id and r.plan_id = v.plan_id and r.version = v.version) as "prices!: Json<Vec<Price>>",
  (select coalesce(jsonb_agg(jsonb_build_object('name', l.name, 'beyond', l.beyond, 'included', l.included,
                                                'block_size', l.block_size, 'price_amount_minor', l.price_amount_minor,
                                                'price_currency', l.price_currency)), '[]')
   from plan_limit l
   where l.agency_id = v.agency_id and l.plan_id = v.plan_id and l.version = v.version) as "limits!: Json<Vec<LimitRow>>"
from plan p
join plan_version v on v.agency_id = p.agency_id and v.plan_id = p.id and v.version = coalesce($3, p.latest_version)
where p.agency_id = $1 and p.id = $2
