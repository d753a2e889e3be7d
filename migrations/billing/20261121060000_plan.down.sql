drop table stripe_price;
drop table plan_limit;
drop table plan_price;
drop table plan_version;
drop table plan;
drop function refuse_change_of_sold_part();
drop function refuse_change_of_sold_version();
